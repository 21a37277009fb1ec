"""Tells people what happened to a model: read from the ledger, so that a killed process keeps nothing from them."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from perennial.continual.cycle import OUTCOMES, CycleState
from perennial.ops.ledger import AuditEntry, DriftReportRow
from perennial.ops.ledger.ports import Audit, Cycles, DriftReports, Routes, State
from perennial.ops.notify import Message, Notifier, Severity
from perennial.ops.store.state import NOTIFIER, RETRIES, ErrorState, NotifierState
from perennial.ops.views.status import ErrorView
from perennial.ops.watching.quarantine_watch import QUARANTINED

__all__ = ["RESTARTED", "EventNotifier"]

RESTARTED = "triton.restarted"
_STUCK = timedelta(seconds=60)  # so long may a rollback or an abort be tried in vain before people are told
_PROMOTION = re.compile(r"cycle (\d+)")  # the reason of a promotion
_TURNED_AWAY = OUTCOMES - {CycleState.PROMOTED}
_OUTCOMES: Mapping[str, tuple[str, Severity, str]] = {  # of a cycle: alert, severity, title
    "promoted": ("promoted", Severity.INFO, "version {version} is champion"),
    "refused": ("refused", Severity.WARNING, "version {version} was refused"),
    "failed": ("failed", Severity.ALERT, "version {version} could not be made"),
    "rolled_back": ("rolled_back", Severity.ALERT, "version {version} was rolled back"),
    "aborted": ("aborted", Severity.INFO, "version {version} was given up"),
}


class NotifierLedger(Audit, Cycles, DriftReports, Routes, State, Protocol):
    """Where what happened is read, and up to where it was told."""


class EventNotifier:
    """One model's messages. What a channel did not take is tried again at the next pass, and holds nothing else up."""

    def __init__(self, ledger: NotifierLedger, model: str, notifier: Notifier) -> None:
        self._ledger, self._model, self._notifier = ledger, model, notifier

    def notify(self) -> str:
        """Tell what happened since the last pass; the first pass ever only notes where it begins."""
        before = NOTIFIER.read(self._ledger, self._model)
        if before is None:
            newest = self._ledger.drift_reports(self._model, limit=1)
            here = NotifierState(audit=self._ledger.audit_head()[0], report=(newest[0].id or 0) if newest else 0)
            NOTIFIER.keep(self._ledger, self._model, here)
            return ""
        entries = self._ledger.audit_entries(self._model, since_seq=before.audit)
        reports = tuple(reversed(self._ledger.drift_reports(self._model, after_id=before.report)))
        sent: list[str] = []
        after = NotifierState(
            audit=self._through([(e.seq, _of_entry(e)) for e in entries], before.audit, sent),
            report=self._through([(r.id or 0, _of_report(r)) for r in reports], before.report, sent),
        )
        for standing in (self._approval(), self._stuck(), self._errors()):
            self._send(standing, sent)
        if after != before:
            NOTIFIER.keep(self._ledger, self._model, after)
        return ", ".join(sent)

    def _through(self, things: list[tuple[int, Message | None]], before: int, sent: list[str]) -> int:
        """Send the messages in order, and return up to which one every channel is done."""
        done, open_one = before, False
        for number, message in things:
            settled = self._send(message, sent)
            open_one = open_one or not settled
            done = done if open_one else number
        return done

    def _send(self, message: Message | None, sent: list[str]) -> bool:
        if message is None:
            return True
        if self._notifier.notify(message):
            sent.append(f"{message.alert} {message.episode}")
        return self._notifier.settled(message)

    def _approval(self) -> Message | None:
        cycle = self._ledger.active_cycle(self._model)
        if cycle is None or cycle.state != "approval":
            return None
        version = cycle.payload.get("challenger")
        return Message(
            model=self._model,
            alert="approval",
            episode=f"cycle-{cycle.id}",
            title=f"version {version} waits for an approval",
            body=f"It passed the gate. Opened because: {cycle.reason}. Approve or abort it through the control API.",
            at=cycle.saved_at,
            facts={"cycle": cycle.id, "version": version},
        )

    def _stuck(self) -> Message | None:
        """A version that was turned away and cannot be taken out of the route."""
        cycle, waits = self._ledger.active_cycle(self._model), RETRIES.read(self._ledger, self._model)
        if cycle is None or waits is None or waits.cycle != cycle.id or cycle.state not in _TURNED_AWAY:
            return None
        since = datetime.fromisoformat(waits.since)
        if datetime.now(UTC) - since < _STUCK:
            return None
        return Message(
            model=self._model,
            alert="stuck",
            episode=f"cycle-{cycle.id}",
            title=f"the cycle is {cycle.state.replace('_', ' ')} and {waits.step} cannot be carried out",
            body=f"Tried again since {since:%Y-%m-%d %H:%M:%S} UTC: {waits.error}. See `perennial rollout show`; "
            "`perennial model promote` or `rollback` by hand ends it too.",
            severity=Severity.ALERT,
            at=since,
            facts={"cycle": cycle.id, "version": cycle.payload.get("challenger"), "step": waits.step},
        )

    def _errors(self) -> Message | None:
        """The alarm of the labelled errors, while it stands."""
        route = self._ledger.route(self._model)
        state = None if route is None else ErrorState.of(self._ledger, self._model, route.champion)
        if state is None or state.since is None:
            return None
        return Message(
            model=self._model,
            alert="drift",
            episode=f"errors-{state.version}-{state.since:%Y%m%dT%H%M%S}",
            title="labelled answers are wrong more often than before",
            body=f"Version {state.version}, since {state.since:%Y-%m-%d %H:%M:%S} UTC. The texts may look as always: "
            "a change of concept is like that. See `perennial status --json`.",
            severity=Severity.ALERT,
            at=state.since,
            facts={**asdict(ErrorView.of(state)), "version": state.version},
        )


def _of_report(report: DriftReportRow) -> Message | None:
    signal = report.payload["signal"]
    if not signal.get("alert"):
        return None
    new = ["new requests"] if report.payload["comparison"].get("novel") else []
    names = ", ".join([*signal.get("signals", ()), *new]) or "no single signal"
    return Message(
        model=report.model,
        alert="drift",
        episode=f"drift-{signal['episode']}",
        title=f"traffic drifted: {names}",
        body=f"{signal['reason']}. See `perennial drift explain --model {report.model} --report {report.id}`.",
        severity=Severity.ALERT,
        at=report.at,
        facts={
            "report": report.id,
            "version": report.version,
            "rows": report.rows,
            "since": report.payload.get("drift_since"),
        },
    )


def _of_entry(entry: AuditEntry) -> Message | None:
    if entry.model is None:
        return None
    if entry.action == "cycle.closed":
        return _of_cycle(entry.model, entry.at, entry.detail)
    if entry.action == "route.set":
        return _of_promotion(entry) if entry.actor == "loop" else _of_route(entry)
    if entry.action == "probation.rolled_back":
        return _of_cycle(entry.model, entry.at, {**entry.detail, "outcome": "rolled_back"})
    if entry.action == QUARANTINED:
        return _of_damage(entry.model, entry)
    if entry.action == RESTARTED:
        return Message(
            model=entry.model,
            alert="triton",
            episode=f"restart-{entry.seq}",
            title="the inference server was restarted",
            body="It had died, hung, or lost a process; it serves the same champion again.",
            severity=Severity.ALERT,
            at=entry.at,
            facts=entry.detail,
        )
    return None


def _of_damage(model: str, entry: AuditEntry) -> Message:
    kept = "its readable rows stay in the log" if entry.detail["rows_stay"] else "its rows are out of the log"
    return Message(
        model=model,
        alert="damage",
        episode=f"quarantine-{entry.seq}",
        title="a damaged file of the traffic log was set aside",
        body=f"{entry.detail['file']} lies in the log's quarantine folder, {kept}. Look at the disk; put a good copy "
        "back under its old name, or delete it.",
        severity=Severity.ALERT,
        at=entry.at,
        facts=entry.detail,
    )


def _of_cycle(model: str, at: datetime, detail: Mapping[str, Any]) -> Message | None:
    outcome = str(detail["outcome"])
    if outcome not in _OUTCOMES:
        return None
    alert, severity, title = _OUTCOMES[outcome]
    version = detail.get("version", "?")
    return Message(
        model=model,
        alert=alert,
        episode=f"cycle-{detail['cycle']}",
        title=f"{title.format(version=version)} (cycle {detail['cycle']})",
        body=str(detail.get("note", "")),
        severity=severity,
        at=at,
        facts=detail,
    )


def _of_promotion(entry: AuditEntry) -> Message | None:
    """A cycle's version became champion. Its cycle may close a week later, under the same episode, and is not told."""
    before, after = entry.detail.get("from"), entry.detail["to"]
    cycle = _PROMOTION.fullmatch(str(entry.detail.get("reason")))
    if entry.model is None or cycle is None or before is None or before["champion"] == after["champion"]:
        return None
    note = f"instead of version {before['champion']}; `perennial rollout show` tells how its probation goes"
    facts = {"cycle": int(cycle[1]), "version": after["champion"], "outcome": "promoted", "note": note}
    return _of_cycle(entry.model, entry.at, facts)


def _of_route(entry: AuditEntry) -> Message | None:
    """An operator's own change of the champion; the loop's changes are told by their cycle."""
    before, after = entry.detail.get("from"), entry.detail["to"]
    if entry.model is None or before is None or before["champion"] == after["champion"]:
        return None
    back = after["champion"] < before["champion"]
    return Message(
        model=entry.model,
        alert="rolled_back" if back else "promoted",
        episode=f"route-{after['epoch']}",
        title=f"{entry.actor} {'put back' if back else 'promoted'} version {after['champion']}",
        body=f"Instead of version {before['champion']}: {entry.detail.get('reason') or 'no reason given'}",
        severity=Severity.WARNING if back else Severity.INFO,
        at=entry.at,
        facts={"from": before["champion"], "to": after["champion"]},
    )
