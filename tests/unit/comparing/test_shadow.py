"""The shadow report on two real bundles: what it tells, with which intervals, and how fast it may go."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from perennial.ops.comparing import shadow
from perennial.ops.comparing.shadow import ShadowSpec, replay
from tests.component.triton_fixtures import LABELS, write_bundle

FIGURES = (
    "disagreement_share",
    "confidence_difference",
    "confidence_difference_where_agreed",
    "latency_difference_ms",
    "accuracy_difference_points",
)
TEXTS = ("card lost", "money transfer", "hello")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A version, one that answers alike, one that answers otherwise, and one that dawdles over transfers."""
    folder = tmp_path_factory.mktemp("bundles")
    kinds: dict[str, dict[str, int]] = {"good": {}, "same": {}, "other": {"shift": 1}, "slow": {"hang": 20_000}}
    return {
        name: str(write_bundle(folder / name, number, **kind)) for number, (name, kind) in enumerate(kinds.items(), 1)
    }


def replayed(
    bundles: dict[str, str], challenger: str, rows: int = 30, *, labels: bool = True, per_s: float = 1e6
) -> Any:
    spec = ShadowSpec(
        champion_bundle=bundles["good"],
        challenger_bundle=bundles[challenger],
        rows=[({"text": TEXTS[n % 3]}, LABELS[n % 3] if labels else None) for n in range(rows)],
        threads=1,
        seed=0,
        rows_per_s=per_s,
    )
    return replay(spec)


def test_versions_that_answer_alike_differ_in_nothing_and_the_report_says_how_sure_it_is(bundles):
    report = replayed(bundles, "same")
    for name in FIGURES:
        figure = report[name]
        assert figure["low"] <= figure["mean"] <= figure["high"], name
    assert report["disagreement_share"]["mean"] == 0.0
    assert 0.05 < report["disagreement_share"]["high"] < 0.2, "none of 30 rows is not none of all"
    quality = report["accuracy_difference_points"]
    assert (quality["mean"], report["disagreements"]) == (0.0, [])
    assert quality["low"] < -3.0 < 3.0 < quality["high"]
    assert report["confidence_difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_versions_that_answer_otherwise_are_told_with_their_texts(bundles):
    report = replayed(bundles, "other")
    assert report["disagreement_share"]["mean"] == 1.0
    assert report["disagreement_share"]["low"] > 0.85
    assert report["accuracy_difference_points"]["high"] < -70.0
    assert report["confidence_difference_where_agreed"] is None, "they agree nowhere"
    assert len(report["disagreements"]) == 20
    assert report["disagreements"][0] == {
        "text": "card lost",
        "champion": "card_issue",
        "challenger": "money_issue",
        "label": "card_issue",
    }


def test_without_labels_or_rows_nothing_is_claimed(bundles):
    report = replayed(bundles, "other", labels=False)
    assert (report["labelled_rows"], report["accuracy_difference_points"]) == (0, None)
    empty = replayed(bundles, "same", rows=0)
    assert [empty[name] for name in FIGURES] == [None] * len(FIGURES)


def test_a_slower_version_is_told_by_an_interval_above_zero(bundles):
    report = replayed(bundles, "slow")
    assert report["latency_difference_ms"]["low"] > 0.0
    assert report["latency_ms"]["champion"] > 0.0


def test_the_rate_limit_holds(bundles):
    started = time.monotonic()
    replayed(bundles, "same", rows=20, per_s=50.0)
    assert time.monotonic() - started >= 0.4


def test_the_process_reads_its_spec_and_leaves_its_report(bundles, tmp_path, monkeypatch):
    spec = {
        "champion_bundle": bundles["good"],
        "challenger_bundle": bundles["same"],
        "rows": [[{"text": "card"}, None]],
    }
    path = tmp_path / "shadow.json"
    path.write_text(json.dumps(spec | {"threads": 1, "seed": 0, "rows_per_s": 100.0}))
    monkeypatch.setattr("sys.argv", ["shadow", str(path)])
    assert shadow.main() == 0
    assert json.loads((tmp_path / "shadow.report.json").read_text())["rows"] == 1
    Path(bundles["same"], "surplus").touch()
    assert shadow.main() == 4
    Path(bundles["same"], "surplus").unlink()
