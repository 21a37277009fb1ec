"""What the API shows of a window is all that the comparison says."""

from dataclasses import fields, replace
from datetime import UTC, datetime

from perennial.continual.drift.compare import DriftComparison, Season
from perennial.ops.ledger import DriftReportRow
from perennial.ops.views.drift import WindowComparison, drift_report

SEEN = DriftComparison(
    version=3, n_reference=600, n_current=300, alpha=0.02, permutations=999, seed=7, signals=(), novel=True
)


def test_every_word_of_a_comparison_is_shown():
    said = {field.name for field in fields(DriftComparison)} | {"drifted"}
    assert {field.name for field in fields(WindowComparison)} == said


def test_a_window_that_is_new_by_its_requests_alone_says_so():
    told = replace(SEEN, season=Season.NEW, period="a day")
    shown = drift_report(report(told.to_json())).comparison
    assert (shown.novel, shown.drifted, shown.season, shown.period) == (True, True, "new", "a day")


def test_a_report_of_an_earlier_release_has_the_defaults():
    kept = {name: value for name, value in SEEN.to_json().items() if name not in {"novel", "season", "matched"}}
    shown = drift_report(report(kept)).comparison
    assert (shown.novel, shown.season, shown.matched) == (False, "", False)


def report(comparison):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return DriftReportRow(
        model="intent", version=3, at=at, rows=300, state="ok", payload={"comparison": comparison, "after_id": ""}
    )
