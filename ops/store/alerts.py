"""Alerts about events and by rules: raised with the headlines that speak for them, judged by analysts, learnt from."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from perennial.continual.errors import NotFound
from perennial.continual.events import Opinionated, RiskFacts, RiskModel, Sighting, WatchPlan, facts_of
from perennial.ops.store.headline_tables import keep_setting
from perennial.ops.store.private_file import PrivateFile, moment, stamp

__all__ = ["LAST_NUMBER", "RISK", "Alert", "AlertState", "Alerts", "Evidence", "raise_alerts", "standing_alert"]

RISK = "risk"  # the rule's name of alerts that the risk score raised
LAST_NUMBER = 2**63 - 1  # of the file's rows
_LOOKED_AT = 500  # headlines, for rules
_COLUMNS = "number, rule, subject, at, risk, facts, evidence, state, judged_at, judged_by, note"


class AlertState(StrEnum):
    """What became of an alert."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    DISMISSED = "dismissed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A headline that speaks for an alert; its text is empty where it was erased or grew too old."""

    prediction_id: str
    at: datetime | None
    source: str
    text: str
    sentiment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """`rule` is `risk`, or an operator's rule; `subject` the event, or the rule's symbol. `facts` tell why."""

    number: int
    rule: str
    subject: str
    at: datetime
    risk: float | None
    facts: Mapping[str, Any]
    state: AlertState
    evidence: tuple[Evidence, ...]
    judged_at: datetime | None = None
    judged_by: str | None = None
    note: str = ""


class Alerts:
    """A model's alerts."""

    def __init__(self, file: PrivateFile) -> None:
        self._file = file

    def all(
        self, *, state: AlertState | None = None, after: int = 0, before: int = LAST_NUMBER, last: int = 100
    ) -> list[Alert]:
        """The latest alerts of a state, or of any, whose number lies between the two, the newest first."""
        where, values = ("AND state = ?", (state.value,)) if state is not None else ("", ())
        with self._file.reading(create=True) as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM alert WHERE number > ? AND number < ? {where} ORDER BY number DESC LIMIT ?",
                (after, before, *values, last),
            ).fetchall()
            return [_alert(connection, row) for row in rows]

    def one(self, number: int) -> Alert:
        """The alert of a number.

        Raises:
            NotFound: there is none.
        """
        with self._file.reading(create=True) as connection:
            return _one(connection, number)

    def judge(self, number: int, state: AlertState, *, by: str, at: datetime, note: str = "") -> Alert:
        """Confirm or dismiss an alert, or open it again. What is known of events' risk is learnt anew from all.

        Raises:
            NotFound: there is no such alert.
        """
        with self._file.writing() as connection:
            _one(connection, number)
            judged = (None, None) if state is AlertState.OPEN else (stamp(at), by)
            connection.execute(
                "UPDATE alert SET state = ?, judged_at = ?, judged_by = ?, note = ? WHERE number = ?",
                (state.value, *judged, note, number),
            )
            _learn(connection)
            return _one(connection, number)


def raise_alerts(
    connection: sqlite3.Connection, plan: WatchPlan, sighting: Sighting, sentiments: Mapping[str, str]
) -> None:
    """Raise what one headline calls for: one alert an event, and one a rule and symbol within the rule's time."""
    if sighting.event is not None and _latest(connection, RISK, sighting.event.name) is None:
        facts = facts_of(sighting.event, limit=plan.events.limit)
        risk = plan.risk.score(facts)
        if risk >= plan.risk_limit:
            event = sighting.event
            told = asdict(facts) | {"words": list(event.words), "sources_named": sorted(event.sources)}
            numbers = connection.execute(
                "SELECT number FROM item WHERE event = ? AND copy_of IS NULL ORDER BY number", (event.name,)
            ).fetchall()
            _raise(connection, RISK, event.name, sighting.item.at, risk, told, [number for (number,) in numbers])
    if sighting.item.copy_of is not None:
        return
    now = Opinionated(
        number=sighting.item.number, at=sighting.item.at, source=sighting.item.source, sentiments=sentiments
    )
    for rule in plan.rules:
        if not rule.asks_about(now):
            continue
        for hit in rule.met_by(_opinionated(connection, since=now.at - rule.within)):
            before = _latest(connection, rule.name, hit.symbol)
            if before is None or now.at - before > rule.within:
                facts_told = {"sentiment": rule.sentiment, "headlines": len(hit.evidence)}
                _raise(connection, rule.name, hit.symbol, now.at, None, facts_told, hit.evidence)


def standing_alert(connection: sqlite3.Connection, headline: int, event: str) -> str:
    """The number of the alert that a headline's event raised, else one that it speaks for; no dismissed one."""
    row = connection.execute(
        "SELECT max(number) FROM alert WHERE state <> ? AND ((rule = ? AND subject = ? AND ? <> '') OR "
        "EXISTS (SELECT 1 FROM json_each(alert.evidence) WHERE json_each.value = ?)) AND number > "
        "(SELECT coalesce(max(number), 0) - ? FROM alert)",
        (AlertState.DISMISSED.value, RISK, event, event, headline, _LOOKED_AT),
    ).fetchone()
    return "" if row[0] is None else str(row[0])


def _raise(
    connection: sqlite3.Connection,
    rule: str,
    subject: str,
    at: datetime,
    risk: float | None,
    facts: Mapping[str, Any],
    evidence: Sequence[int],
) -> None:
    connection.execute(
        "INSERT INTO alert (rule, subject, at, risk, facts, evidence, state) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            rule,
            subject,
            stamp(at),
            risk,
            json.dumps(dict(facts), ensure_ascii=False),
            json.dumps(list(evidence)),
            AlertState.OPEN.value,
        ),
    )


def _latest(connection: sqlite3.Connection, rule: str, subject: str) -> datetime | None:
    (at,) = connection.execute("SELECT max(at) FROM alert WHERE rule = ? AND subject = ?", (rule, subject)).fetchone()
    return None if at is None else moment(at)


def _opinionated(connection: sqlite3.Connection, *, since: datetime) -> list[Opinionated]:
    rows = connection.execute(
        "SELECT number, at, source, label, opinions FROM item WHERE copy_of IS NULL AND at >= ? "
        "ORDER BY number DESC LIMIT ?",
        (stamp(since), _LOOKED_AT),
    ).fetchall()[::-1]
    return [
        Opinionated(number=number, at=moment(at), source=source, sentiments=json.loads(opinions) or {"": label})
        for number, at, source, label, opinions in rows
    ]


def _learn(connection: sqlite3.Connection) -> None:
    """Judged alerts move the weights of the risk from where the plan began."""
    rows = connection.execute(
        "SELECT facts, state FROM alert WHERE rule = ? AND state <> ? ORDER BY number", (RISK, AlertState.OPEN.value)
    ).fetchall()
    judged = [(_facts(json.loads(facts)), state == AlertState.CONFIRMED.value) for facts, state in rows]
    learnt = RiskModel().learnt(judged)
    kept = {"weights": dict(learnt.weights), "bias": learnt.bias}
    keep_setting(connection, "risk", json.dumps(kept, sort_keys=True))


def _facts(told: Mapping[str, Any]) -> RiskFacts:
    return RiskFacts(**{name: told[name] for name in RiskFacts.__dataclass_fields__})


def _one(connection: sqlite3.Connection, number: int) -> Alert:
    row = connection.execute(f"SELECT {_COLUMNS} FROM alert WHERE number = ?", (number,)).fetchone()
    if row is None:
        raise NotFound(f"alert {number} is not there; `perennial alerts list` shows those that are")
    return _alert(connection, row)


def _alert(connection: sqlite3.Connection, row: Sequence[Any]) -> Alert:
    number, rule, subject, at, risk, facts, evidence, state, judged_at, judged_by, note = row
    return Alert(
        number=number,
        rule=rule,
        subject=subject,
        at=moment(at),
        risk=risk,
        facts=json.loads(facts),
        state=AlertState(state),
        evidence=tuple(_evidence(connection, one) for one in json.loads(evidence)),
        judged_at=None if judged_at is None else moment(judged_at),
        judged_by=judged_by,
        note=note,
    )


def _evidence(connection: sqlite3.Connection, number: int) -> Evidence:
    row = connection.execute(
        "SELECT prediction_id, at, source, text, label FROM item WHERE number = ?", (number,)
    ).fetchone()
    if row is None:
        return Evidence(prediction_id="", at=None, source="", text="", sentiment="")
    return Evidence(prediction_id=row[0], at=moment(row[1]), source=row[2], text=row[3], sentiment=row[4])
