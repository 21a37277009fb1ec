"""A label, a name or a figure that is markup stays text in every page that we write."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perennial.continual.drift import DriftSettings, ReferenceProfile, Window, compare
from perennial.continual.drift.evidently_report import build_report, check_agreement
from perennial.ops.demo.measure import Learnt, Recorded, moments, summarise
from perennial.ops.demo.report import write_report
from perennial.ops.demo.world import Answered
from tests.unit.drift.generated import traffic

pytestmark = pytest.mark.component
MARK = "evilmark"
HOSTILE = (
    f"</script><script>{MARK}()</script>",
    f"</ScRiPt ><img src=x onerror={MARK}()>",
    f"<img src=x onerror='{MARK}()'>",
    f'"><svg onload={MARK}()>',
    f"<!--<script>{MARK}",
    f"--><{MARK}>",
    f"<a href='javascript:{MARK}()'>refund</a>",
    f"&lt;script&gt;{MARK}&lt;/script&gt;",
    f"'; {MARK}(); '",
    f"${{{MARK}()}}`",
    f"</style><style>@import '{MARK}'",
    f"</title><{MARK} a=b>",
)


class Page(HTMLParser):
    """The elements of a page as a browser sees them, and what stands inside scripts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += attrs


def injected(page: Page) -> list[Any]:
    inside = [tag for tag in page.elements if MARK in tag]
    return inside + [(name, value) for name, value in page.attributes if name.startswith("on") or MARK in (value or "")]


def labelled(window: Window, labels: tuple[str, ...]) -> Window:
    return replace(window, predictions=np.asarray([labels[i % len(labels)] for i in range(len(window))], dtype=str))


def report_of(labels: tuple[str, ...], model: str, folder: Path) -> tuple[Page, str]:
    rng = np.random.default_rng(2)
    reference = ReferenceProfile.build(labelled(traffic(300, rng), labels), version=1, rng=rng)
    window = labelled(traffic(200, rng, new=0.3), labels)
    comparison = compare(reference, window, DriftSettings(), rng)
    paths = build_report(
        reference, window, comparison, folder / "r.html", folder / "workspace", {"model": model, "note": labels[0]}
    )
    assert check_agreement(json.loads(paths.json.read_text()), comparison) == []
    return Page(paths.html.read_text()), paths.snapshot.read_text()


def test_labels_that_are_markup_add_nothing_to_an_evidently_page(tmp_path: Path) -> None:
    plain = tuple(f"label {number}" for number in range(len(HOSTILE)))
    harmless, _ = report_of(plain, "intent", tmp_path / "plain")
    hostile, snapshot = report_of(HOSTILE, HOSTILE[0], tmp_path / "hostile")
    assert hostile.elements == harmless.elements
    assert injected(hostile) == []
    assert not any(f"<{tag}" in snapshot for tag in ("script", "img", "svg", "a ", "/script", "!--"))
    workspace = "".join(path.read_text() for path in (tmp_path / "hostile" / "workspace").rglob("*.json"))
    assert MARK in workspace
    assert "<script" not in workspace
    assert "<img" not in workspace


def recorded(texts: list[str]) -> Recorded:
    """A stream whose every text, label and event is one of these."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    answered = [
        Answered(number=n, wave=0, text=t, label=t, sent_at=at, at_s=n / 10, answer=t, version=1, latency_ms=1.0)
        for n, t in enumerate(texts)
    ]
    facts = {"window_from": at.isoformat(), "window_to": at.isoformat(), "score": 2.0, "signals": texts, "alert": True}
    told: list[tuple[str, dict[str, Any]]] = [("drift.window", facts)]
    for number, text in enumerate(texts):
        told.append(("cycle.opened", {"cycle": number, "version": number, "reason": text}))
        told += [("cycle.state", {"cycle": number, "state": state, "note": text}) for state in (text, "refused")]
    events = [
        {"name": name, "at": (at + timedelta(seconds=n)).isoformat(), "model": texts[0], "number": n, "facts": facts}
        for n, (name, facts) in enumerate(told)
    ]
    return Recorded(
        answered=tuple(answered), events=tuple(events), wave_began=(1,), wave_began_at=(at,), triton_restarts=0
    )


def test_texts_that_are_markup_add_nothing_to_the_demos_page(tmp_path: Path) -> None:
    pages = []
    for name, texts in (("plain", ["a"] * len(HOSTILE)), ("hostile", list(HOSTILE))):
        path = tmp_path / f"{name}.html"
        stream, right = recorded(texts), (True,) * len(texts)
        learnt = Learnt(perennial=right, never_retrained=right, tfidf_nightly=right)
        summary = summarise(stream, None, learnt, moments(stream), replay_rows=1, wall_seconds=1.0)
        write_report(path, stream, learnt, summary | {"failures": dict.fromkeys(texts, 1)}, texts[0])
        pages.append(Page(path.read_text()))
    assert pages[1].elements == pages[0].elements
    assert injected(pages[1]) == []
