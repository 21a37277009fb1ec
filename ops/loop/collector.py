"""Joins labels to the requests they belong to: feedback and traffic become examples."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from continual.preparation import split_of
from continual.records import Example
from ops.ledger import JoinOutcome, Ledger, PendingFeedback
from ops.traffic import TrafficLog

__all__ = ["Collected", "collect"]

logger = logging.getLogger(__name__)
_PAGE = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What one pass did: labels joined, still waiting for their request, and given up."""

    joined: int = 0
    waiting: int = 0
    unmatched: int = 0


def collect(
    ledger: Ledger,
    traffic: TrafficLog,
    model: str,
    *,
    holdout_share: float,
    now: datetime,
    give_up_after: timedelta = timedelta(days=7),
) -> Collected:
    """Turn every label whose request is in the traffic log into an example.

    Examples are stored before a label is taken off the list, so that a pass killed between the two only repeats
    itself. A label whose request is not there yet waits; after `give_up_after` it is noted as unmatched.
    """
    joined = waiting = unmatched = 0
    after = 0
    while page := ledger.pending_feedback(model, _PAGE, after_id=after):
        after = page[-1].id
        rows = traffic.lookup([p.prediction_id for p in page], columns=["prediction_id", "text", "key", "redacted"])
        answered = {row["prediction_id"]: row for row in rows.to_pylist()}
        found = [p for p in page if p.prediction_id in answered and str(answered[p.prediction_id]["text"]).strip()]
        lost = [p for p in page if p.prediction_id not in answered and now - p.received_at > give_up_after]
        ledger.add_examples(
            model,
            [_example(p, answered[p.prediction_id]) for p in found],
            lambda text: split_of(text, holdout_share=holdout_share),
        )
        ledger.mark_joined(model, found)
        blank = [p for p in page if p.prediction_id in answered and p not in found]
        ledger.mark_joined(model, [*lost, *blank], outcome=JoinOutcome.UNMATCHED)
        joined += len(found)
        unmatched += len(lost) + len(blank)
        waiting += len(page) - len(found) - len(lost) - len(blank)
    if joined or unmatched:
        logger.info(
            "labels.joined", extra={"model": model, "joined": joined, "waiting": waiting, "unmatched": unmatched}
        )
    return Collected(joined=joined, waiting=waiting, unmatched=unmatched)


def _example(pending: PendingFeedback, row: Mapping[str, Any]) -> Example:
    return Example(
        text=str(row["text"]),
        label=pending.label,
        at=pending.at,
        origin=pending.origin,
        key=pending.key or row["key"],
        prediction_id=pending.prediction_id,
        redacted=bool(row["redacted"]),
    )
