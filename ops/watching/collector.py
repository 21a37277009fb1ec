"""Joins labels to the requests they belong to: feedback and traffic become examples."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from math import ceil, log2
from typing import Any, Protocol

from perennial.continual.errors import DataError
from perennial.continual.identity import split_by
from perennial.continual.task import AnyRow
from perennial.ops.ledger import JoinOutcome, PendingFeedback
from perennial.ops.ledger.ports import ErasedRows, ExampleSink, PendingLabels, Vocabulary
from perennial.ops.store.feedback import Joiner, LabelJoiner
from perennial.ops.traffic import TrafficLog

__all__ = ["Collected", "collect"]

logger = logging.getLogger(__name__)
_PAGE = 2_000
_PASS_S = 5.0  # a pass; the next one goes on
_FRESH = timedelta(minutes=1)  # so long a row may be written after its request: until then it is looked for each time
_LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What one pass did: labels joined, still waiting for their request, given up, and refused by the rule."""

    joined: int = 0
    waiting: int = 0
    unmatched: int = 0
    refused: int = 0


class CollectorLedger(ErasedRows, ExampleSink, PendingLabels, Vocabulary, Protocol):
    """Where labels wait, and where examples go."""


@dataclass(frozen=True, slots=True)
class _Joined:
    pending: PendingFeedback
    example: AnyRow


def collect(
    ledger: CollectorLedger,
    traffic: TrafficLog,
    model: str,
    *,
    holdout_share: float,
    now: datetime,
    give_up_after: timedelta = timedelta(days=7),
    joiner: Joiner | None = None,
) -> Collected:
    """Turn every label whose request is in the traffic log into an example; by `joiner`, or as labels of texts are.

    Examples are stored before a label is taken off the list, so that a pass killed between the two only repeats
    itself. A label whose request is not there yet waits: after its first minute it is looked for again each time that
    it has waited twice as long, so that labels of no request cost next to nothing. After `give_up_after` it is noted as
    unmatched. A row that cannot become an example, whatever is wrong with it, is noted as refused, and the others go
    on.
    """
    joined = unmatched = refused = 0
    after: PendingFeedback | None = None
    began = time.monotonic()
    joiner = joiner or LabelJoiner(ledger, model)
    while page := ledger.pending_feedback(model, _PAGE, after=after, due_by=now):
        after = page[-1]
        rows = traffic.lookup([p.prediction_id for p in page], columns=["prediction_id", *joiner.columns])
        answered = {row["prediction_id"]: row for row in rows.to_pylist()}
        admitted, bad = _examples(
            model, [(p, answered[p.prediction_id]) for p in page if p.prediction_id in answered], joiner
        )
        stored, not_stored = _store(ledger, model, admitted, joiner, holdout_share)
        joiner.stored([row.example for row in stored])
        bad += [row.pending for row in not_stored]
        absent = [p for p in page if p.prediction_id not in answered]
        lost = [p for p in absent if now - p.received_at > give_up_after]
        _postpone(
            ledger, model, [p for p in absent if _FRESH < now - p.received_at <= give_up_after], now, give_up_after
        )
        ledger.mark_joined(model, [row.pending for row in stored])
        ledger.mark_joined(model, lost, outcome=JoinOutcome.UNMATCHED)
        ledger.mark_joined(model, bad, outcome=JoinOutcome.REFUSED)
        joined += len(stored)
        unmatched += len(lost)
        refused += len(bad)
        if time.monotonic() - began > _PASS_S:
            break
    waiting = ledger.waiting_count(model)
    collected = Collected(joined=joined, waiting=waiting, unmatched=unmatched, refused=refused)
    if joined or unmatched or refused:
        logger.info("labels.joined", extra={"model": model, **asdict(collected)})
    return collected


def _postpone(
    ledger: PendingLabels, model: str, rows: Sequence[PendingFeedback], now: datetime, give_up_after: timedelta
) -> None:
    """Look for these again once they have waited twice as long; by whole minutes, so that many share a write."""
    minutes: dict[int, list[PendingFeedback]] = {}
    for row in rows:
        waited = now - row.received_at
        step = min(waited, _LONGEST_WAIT, give_up_after - waited)
        minutes.setdefault(int(2 ** ceil(log2(step / _FRESH))) if step > _FRESH else 1, []).append(row)
    for number, some in minutes.items():
        ledger.postpone(model, some, now + number * _FRESH)


def _examples(
    model: str, rows: Sequence[tuple[PendingFeedback, Mapping[str, Any]]], joiner: Joiner
) -> tuple[list[_Joined], list[PendingFeedback]]:
    """The rows that the rule lets in, and those that it refuses."""
    admitted: list[_Joined] = []
    refused: list[PendingFeedback] = []
    for pending, row in rows:
        try:
            admitted.append(_Joined(pending, joiner.row(pending, row)))
        except DataError as error:
            refused.append(pending)
            _log_refused(model, pending, error)
    return admitted, refused


def _store(
    ledger: CollectorLedger, model: str, rows: list[_Joined], joiner: Joiner, holdout_share: float
) -> tuple[list[_Joined], list[_Joined]]:
    """Store the rows together, or one by one where the database takes offence at any of them.

    Returns:
        Those that are stored, and those that are refused.
    """
    identity = joiner.task.identity

    def add(part: Sequence[_Joined]) -> None:
        rows = [row.example for row in part]
        ledger.add_examples(model, rows, lambda asked: split_by(identity(asked), holdout_share=holdout_share))

    try:
        add(rows)
    except DataError:
        kept: tuple[list[_Joined], list[_Joined]] = ([], [])
        for row in rows:
            kept[0 if _stored_alone(add, model, row) else 1].append(row)
        return kept
    return rows, []


def _stored_alone(add: Callable[[Sequence[_Joined]], None], model: str, row: _Joined) -> bool:
    try:
        add([row])
    except DataError as error:
        _log_refused(model, row.pending, error)
        return False
    return True


def _log_refused(model: str, pending: PendingFeedback, error: DataError) -> None:
    facts = {"model": model, "prediction_id": pending.prediction_id, "cause": str(error)}
    logger.warning("label.refused", extra=facts)
