"""Which report of drift is made first, and how far it gives way to what serves."""

import math

import pytest

from perennial.ops.app.model_loop import ModelLoop
from tests.unit.watching.test_drift_view import report


class Reports:
    """A ledger with some reports that are wanted, the newest first."""

    def __init__(self, *alerts):
        self.rows = [report({}) for _ in alerts]
        for row, alert in zip(self.rows, alerts, strict=True):
            row.payload.update(report_wanted=True, signal={"alert": alert})

    def active_cycle(self, model):
        return None

    def drift_reports(self, model, *, limit):
        return self.rows[:limit]


@pytest.mark.parametrize(("alerts", "made"), [((False, True), (1, 10)), ((False, False), (0, 19))])
def test_the_report_of_an_alert_comes_before_routine_ones_and_is_not_starved(monkeypatch, alerts, made):
    loop = object.__new__(ModelLoop)
    ledger = Reports(*alerts)
    loop._ledger, loop.model, loop.watch_share, loop._reports_from = ledger, "intent", 1.0, -math.inf
    begun = []
    monkeypatch.setattr(
        ModelLoop, "_make_report", lambda self, row, *, niceness: begun.append((ledger.rows.index(row), niceness))
    )
    loop.report()
    assert begun == [made]
