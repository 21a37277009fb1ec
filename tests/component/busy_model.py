"""Something of everything that the control API can tell of a model."""

from datetime import UTC, datetime

from perennial.continual import cycle as cy
from perennial.continual.cycle import encode
from perennial.continual.records import Example, Origin, Split
from perennial.continual.replay import BufferKind, make_buffer
from perennial.ops.ledger import DriftReportRow
from perennial.ops.parts import Parts
from perennial.ops.traffic.writer import TrafficWriter
from tests.component.traffic_rows import columns

__all__ = ["NOON", "make_busy"]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_ESTIMATE = {"value": 0.9, "low": 0.8, "high": 0.95, "rows": 300, "assumption": "labels came by chance", "contested": 1}
_RESULT = {"statistic": 0.3, "p_value": 0.001, "effect": 0.3, "floor": 0.1, "n_reference": 600, "n_current": 300}
_COUNTS = {"gains": 1, "losses": 2, "ties": 90, "asked": 200, "failed": 0, "timed": 150, "slow": 4, "waiting": 3}
_DETECTOR = {"seen": 40, "total": 4.0, "evidence": [0.5, 1.5], "alarms": 0, "last_alarm": None}
_SIGNAL = {
    "level": "alert",
    "previous": "warning",
    "alert": True,
    "episode": 2,
    "at_request": 900,
    "votes": 3,
    "signals": ["confidence"],
    "reason": "3 of 5 windows drifted",
    "changed": True,
}
_COMPARISON = {
    "version": 2,
    "n_reference": 600,
    "n_current": 300,
    "alpha": 0.02,
    "permutations": 999,
    "seed": 7,
    "signals": [{"signal": "confidence", "method": "ks", "result": _RESULT, "adjusted_p": 0.002, "drifted": True}],
    "drifted": True,
}


def make_busy(parts: Parts) -> int:
    """Fill what a loop, labellers and operators would have written for `intent`; the id of its cycle."""
    ledger = parts.ledger
    payload = {
        "signal": _SIGNAL,
        "comparison": _COMPARISON,
        "after_id": "a1",
        "drift_since": NOON.isoformat(),
        "report_wanted": True,
        "sequential": {"doubt": {"bound": 0.2, "evidence": 1.5, "alarms": 0}},
    }
    for document in (payload, {"signal": _SIGNAL, "comparison": _COMPARISON}):  # the second as the first release did
        ledger.add_drift_report(
            DriftReportRow(model="intent", version=2, at=NOON, rows=300, state="alert", payload=document)
        )
    example = Example(text="my card is lost", label="card", at=NOON, origin=Origin.FEEDBACK, key="me")
    ledger.add_examples("intent", [example], lambda _: Split.TRAIN)
    buffer = make_buffer(BufferKind.CLASS_BALANCED, 10, 0, None)
    buffer.offer(example)
    ledger.save_buffer("intent", buffer.state())
    ledger.describe_classes("intent", {"fraud": "Somebody else used the card."}, "ann")
    writer = TrafficWriter(parts.workspace.traffic("intent"), "busy", dimension=3)
    writer.append(columns([1.0, 2.0, 3.0], version=2))
    writer.close()
    return _begin_cycle(parts)


def _begin_cycle(parts: Parts) -> int:
    cycle = cy.new_cycle(model="intent", champion=2, plan=cy.CyclePlan(approval=True))
    for event in (
        cy.TriggerFired(reason="drift", challenger=3),
        cy.ChallengerTrained(),
        cy.ChallengerExported(),
        cy.GateAccepted(),
        cy.ChallengerLoaded(),
    ):
        cycle, _ = cy.handle(cycle, event)
    number = parts.ledger.open_cycle("intent", "drift", encode(cycle), state=cycle.state.value)
    since = NOON.isoformat()
    live = {"phase": "canary", "cycle": number, "champion": 2, "challenger": 3, "since": since, "verdict": "undecided"}
    proven = {"difference_points": -1.075, "e_values": {"worse": 1.5, "slow": 0.25}, "e_value_needed": 60.0}
    detector = {"version": 2, "cursor": 4, "bound": 0.1, "run_length": 1e6, "detector": _DETECTOR}
    for name, document in {  # as they lie in the ledger
        "rollout": {**live, "reasons": ["nothing was proven"], **_COUNTS, **proven},
        "cycle_retries": {"cycle": number, "step": "LoadVersion", "error": "the server is away", "since": since},
        "cycle_paused": True,
        "training_lane": {"works": False, "behind": ["mail"], "since": since},
        "accuracy": {"version": 2, "at": since, "estimated": _ESTIMATE, "measured": _ESTIMATE, "reference": None},
        "errors": {**detector, "calm_at": since, "alarm_since": since},
    }.items():
        parts.ledger.put_state("intent", name, document)
    return number
