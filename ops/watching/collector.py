"""Joins labels to the requests they belong to: feedback and traffic become examples."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from perennial.continual.errors import DataError
from perennial.continual.preparation import KnownLabels, admit_example, split_of
from perennial.continual.records import Example
from perennial.ops.ledger import JoinOutcome, PendingFeedback
from perennial.ops.ledger.ports import ExampleSink, PendingLabels, Vocabulary
from perennial.ops.store.feedback import known_labels
from perennial.ops.traffic import TrafficLog

__all__ = ["Collected", "collect"]

logger = logging.getLogger(__name__)
_PAGE = 2_000
_LOGGED_BYTES = 1 << 20  # more than the router keeps of any text


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What one pass did: labels joined, still waiting for their request, given up, and refused by the rule."""

    joined: int = 0
    waiting: int = 0
    unmatched: int = 0
    refused: int = 0


class CollectorLedger(ExampleSink, PendingLabels, Vocabulary, Protocol):
    """Where labels wait, and where examples go."""


@dataclass(frozen=True, slots=True)
class _Joined:
    pending: PendingFeedback
    example: Example


def collect(
    ledger: CollectorLedger,
    traffic: TrafficLog,
    model: str,
    *,
    holdout_share: float,
    now: datetime,
    give_up_after: timedelta = timedelta(days=7),
) -> Collected:
    """Turn every label whose request is in the traffic log into an example.

    Examples are stored before a label is taken off the list, so that a pass killed between the two only repeats
    itself. A label whose request is not there yet waits; after `give_up_after` it is noted as unmatched. A row that
    cannot become an example, whatever is wrong with it, is noted as refused, and the others go on.
    """
    joined = waiting = unmatched = refused = 0
    after = 0
    known: KnownLabels | None = None
    while page := ledger.pending_feedback(model, _PAGE, after_id=after):
        after = page[-1].id
        known = known or known_labels(ledger, model)
        rows = traffic.lookup([p.prediction_id for p in page], columns=["prediction_id", "text", "key", "redacted"])
        answered = {row["prediction_id"]: row for row in rows.to_pylist()}
        admitted, bad = _examples(
            model, [(p, answered[p.prediction_id]) for p in page if p.prediction_id in answered], known
        )
        stored = _store(ledger, model, admitted, holdout_share)
        bad += [row.pending for row in admitted if row not in stored]
        lost = [p for p in page if p.prediction_id not in answered and now - p.received_at > give_up_after]
        ledger.mark_joined(model, [row.pending for row in stored])
        ledger.mark_joined(model, lost, outcome=JoinOutcome.UNMATCHED)
        ledger.mark_joined(model, bad, outcome=JoinOutcome.REFUSED)
        joined += len(stored)
        unmatched += len(lost)
        refused += len(bad)
        waiting += len(page) - len(stored) - len(lost) - len(bad)
    collected = Collected(joined=joined, waiting=waiting, unmatched=unmatched, refused=refused)
    if joined or unmatched or refused:
        logger.info("labels.joined", extra={"model": model, **asdict(collected)})
    return collected


def _examples(
    model: str, rows: Sequence[tuple[PendingFeedback, Mapping[str, Any]]], known: KnownLabels
) -> tuple[list[_Joined], list[PendingFeedback]]:
    """The rows that the rule lets in, and those that it refuses."""
    admitted: list[_Joined] = []
    refused: list[PendingFeedback] = []
    for pending, row in rows:
        try:
            admitted.append(_Joined(pending, _example(pending, row, known)))
        except DataError as error:
            refused.append(pending)
            _log_refused(model, pending, error)
    return admitted, refused


def _example(pending: PendingFeedback, row: Mapping[str, Any], known: KnownLabels) -> Example:
    """The rule once more: logs and labels may be older than it, and a twin may have become known meanwhile."""
    example = admit_example(
        text=row["text"],
        label=known.settle(pending.label),
        at=pending.at,
        origin=pending.origin,
        known=known,
        prediction_id=pending.prediction_id,
        redacted=bool(row["redacted"]),
        most_bytes=_LOGGED_BYTES,
    )
    return replace(example, key=pending.key or row["key"])  # as it was kept: an erasure looks for that spelling too


def _store(ledger: CollectorLedger, model: str, rows: list[_Joined], holdout_share: float) -> list[_Joined]:
    """Store the rows together, or one by one where the database takes offence at any of them; return those stored."""

    def add(part: Sequence[_Joined]) -> None:
        ledger.add_examples(
            model, [row.example for row in part], lambda text: split_of(text, holdout_share=holdout_share)
        )

    try:
        add(rows)
    except DataError:
        return [row for row in rows if _stored_alone(add, model, row)]
    return rows


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
