"""Which report of drift is made first, and how far it gives way to what serves."""

import itertools

import pytest

from perennial.ops.app.model_loop import ModelLoop
from perennial.ops.watching.budget import SpareTime
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


@pytest.mark.parametrize(
    ("alerts", "idle", "made"),
    [
        ((False, True), 1.0, [(1, 10)]),
        ((False, False), 1.0, [(0, 19)]),
        ((False, False), 0.0, []),
        ((False, True), 0.0, [(1, 10)]),
    ],
)
def test_the_report_of_an_alert_is_made_at_once_and_a_routine_one_as_processors_allow(monkeypatch, alerts, idle, made):
    loop = object.__new__(ModelLoop)
    ledger = Reports(*alerts)
    seconds = itertools.count(step=15)
    spare = SpareTime(0.01, clock=lambda: float(next(seconds)), idle=lambda: idle)
    loop._ledger, loop.model, loop._for_reports = ledger, "intent", spare
    begun = []
    monkeypatch.setattr(
        ModelLoop, "_make_report", lambda self, row, *, niceness: begun.append((ledger.rows.index(row), niceness))
    )
    loop.report()
    assert begun == made
