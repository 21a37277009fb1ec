"""Alerts and events as people and machines see them: the reason, and the headlines that speak for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perennial.continual.events.hints import hint
from perennial.ops.store.alerts import Alert
from perennial.ops.store.headlines import EventRow

__all__ = ["AlertView", "EventView", "EvidenceView", "alert_view", "event_view"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceView:
    """One headline; without time and text where it was erased or grew too old."""

    at: datetime | None
    source: str
    text: str
    sentiment: str = ""
    prediction_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """An alert. `facts` is what its risk is made of; `hint` tells it in a sentence and foretells nothing."""

    number: int
    state: str
    hint: str
    rule: str
    subject: str
    at: datetime
    risk: float | None
    facts: Mapping[str, Any]
    evidence: tuple[EvidenceView, ...]
    judged_by: str | None = None
    judged_at: datetime | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """An event and its latest headlines. `tone` is the mean of its originals, from -1 to 1."""

    event: str
    phase: str
    opened_at: datetime
    last_at: datetime
    words: tuple[str, ...]
    headlines: int
    copies: int
    sources: tuple[str, ...]
    surprise: float
    tone: float
    latest: tuple[EvidenceView, ...]


def alert_view(alert: Alert) -> AlertView:
    """One alert."""
    return AlertView(
        number=alert.number,
        state=alert.state.value,
        hint=hint(alert.rule, alert.subject, alert.risk, alert.facts, len(alert.evidence)),
        rule=alert.rule,
        subject=alert.subject,
        at=alert.at,
        risk=alert.risk,
        facts=alert.facts,
        evidence=tuple(
            EvidenceView(
                at=one.at,
                source=one.source,
                text=one.text,
                sentiment=one.sentiment,
                prediction_id=one.prediction_id,
            )
            for one in alert.evidence
        ),
        judged_by=alert.judged_by,
        judged_at=alert.judged_at,
        note=alert.note,
    )


def event_view(row: EventRow) -> EventView:
    """One event."""
    event = row.event
    return EventView(
        event=event.name,
        phase=row.phase.value,
        opened_at=event.opened_at,
        last_at=event.last_at,
        words=event.words,
        headlines=event.items,
        copies=event.items - event.originals,
        sources=tuple(sorted(event.sources)),
        surprise=event.score,
        tone=event.tone / max(1, event.originals),
        latest=tuple(EvidenceView(at=at, source=source, text=text) for at, source, text in row.headlines),
    )
