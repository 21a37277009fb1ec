"""Pages of a model with thousands of classes: a page at a time, each class found by its name."""

import html
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import httpx
import pytest

from perennial.continual.records import Example, Origin, Split
from perennial.ops.ledger import Ledger, StoredExample, VersionState, version_card
from tests.component.api_server import RunningApi, answering
from tests.component.console_workspace import MODEL, REGIONS, fill_console

pytestmark = pytest.mark.component
CLASSES = 2_000
LABELS = tuple(f"class {number} / <b>of many</b>" for number in range(CLASSES))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """Version 3 of a workspace with a past, as if it knew so many classes, a fifth of them answered wrongly."""
    with answering(tmp_path_factory.mktemp("classes")) as api:
        fill_console(api.parts)
        ledger = api.parts.ledger
        ledger.set_version_state(MODEL, 3, VersionState.RETIRED, card=version_card(labels=LABELS))
        at = datetime.now(UTC)
        rows = [Example(text=f"text {n}", label=label, at=at, origin=Origin.SEED) for n, label in enumerate(LABELS)]
        ledger.add_examples(MODEL, rows, lambda _: Split.HOLDOUT)
        held = [stored for stored in ledger.examples(MODEL, split=Split.HOLDOUT) if stored.example.label in LABELS]
        given = [LABELS[0] if place % 5 == 0 else row.example.label for place, row in enumerate(held)]
        kept = {"ids": [row.id for row in held], "given": given, "confidence": [0.5] * len(held)}
        (api.parts.workspace.reports(MODEL) / "held-out-answers-3.json").write_text(json.dumps(kept))
        yield api


def see(site: RunningApi, path: str, **query: object) -> str:
    answer = httpx.get(f"{site.url}{path}", params=query, headers={"Accept": "text/html"}, timeout=60, verify=False)
    assert answer.status_code == 200
    return answer.text


def numbers_of(page: str) -> list[int]:
    table = page[page.index('id="by' if 'id="byclass"' in page else 'id="classes"') :]
    return [int(number) for number in re.findall(r"<bdi>class (\d+) / &lt;b&gt;", table)]


def links_of(page: str) -> list[str]:
    return [html.unescape(link) for link in re.findall(r'<a href="([^"]*)" rel="(?:prev|next)"', page)]


@pytest.mark.parametrize("path", [f"/console/models/{MODEL}/versions/3", f"/console/models/{MODEL}/data"])
def test_classes_come_a_page_at_a_time_and_each_once(site: RunningApi, path: str) -> None:
    page = see(site, path)
    assert len(page) < 100_000
    seen = numbers_of(page)
    for _ in range(CLASSES // 50 + 1):
        following = [link for link in links_of(page) if "behind=" in link]
        page = httpx.get(f"{site.url}{following[-1]}", headers={"Accept": "text/html"}, verify=False).text
        if not numbers_of(page) or numbers_of(page)[0] in seen:
            break
        seen += numbers_of(page)
    assert sorted(seen) == list(range(CLASSES))


@pytest.mark.parametrize("path", [f"/console/models/{MODEL}/versions/3", f"/console/models/{MODEL}/data"])
def test_a_class_is_found_by_its_name(site: RunningApi, path: str) -> None:
    assert sorted(numbers_of(see(site, path, find=" Class 199"))) == [199, *range(1990, 2000)]
    assert numbers_of(see(site, path, find="nothing like it")) == []
    assert numbers_of(see(site, path, behind=10**9)) == []


def test_the_worst_come_first_and_only_shown_texts_are_read(site: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, read = list[int](), Ledger.examples_of

    def noted(self: Ledger, model: str, ids: Sequence[int]) -> dict[int, StoredExample]:
        asked.append(len(ids))
        return read(self, model, ids)

    monkeypatch.setattr(Ledger, "examples_of", noted)
    page = see(site, f"/console/models/{MODEL}/versions/3")
    assert all(number % 5 == 0 for number in numbers_of(page)[:20])
    assert sum(asked) <= 10
    assert asked


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ["If each group had a threshold of its own", "answered with the class", "37.2%", "61.8%", "87.5%"]),
        ("zh", ["若每个群体各有阈值", "答为该类", "37.2%", "61.8%", "87.5%"]),
    ],
)
def test_what_thresholds_of_groups_would_give_is_told(site: RunningApi, language: str, words: list[str]) -> None:
    headers = {"Accept": "text/html", "Accept-Language": language}
    page = httpx.get(f"{site.url}/console/models/{MODEL}/versions/3", headers=headers, verify=False).text
    told = page[page.index('id="disturbed"') :]
    assert all(word in told for word in words)
    assert html.escape(REGIONS[1]) in told
