"""Tells people of alerts about headlines, with the evidence; the ledger remembers what was sent."""

from datetime import UTC, datetime

from perennial.continual.events.hints import evidence_lines, hint
from perennial.ops.notify.message import Message, Severity
from perennial.ops.notify.notifier import Notifier
from perennial.ops.safety.printable import printable
from perennial.ops.store.alerts import Alert, Alerts, AlertState
from perennial.ops.store.headlines import Headlines
from perennial.ops.store.workspace import Workspace

__all__ = ["AlertNotifier"]

_AT_ONCE = 50


class AlertNotifier:
    """One model's alerts, each told once on each channel. What a channel did not take is tried at the next pass."""

    def __init__(self, workspace: Workspace, model: str, notifier: Notifier) -> None:
        self._path, self._model, self._notifier = workspace.headlines(model), model, notifier
        self._settled = 0

    def notify(self) -> str:
        """Tell of the alerts that are open and were not told yet."""
        if not self._path.is_file():
            return ""
        headlines = Headlines(self._path)
        try:
            found = Alerts(headlines.file).all(after=self._settled, last=_AT_ONCE)
        finally:
            headlines.close()
        sent, waiting = [], False
        for alert in reversed(found):
            message = self._message(alert)
            if alert.state is AlertState.OPEN and self._notifier.notify(message):
                sent.append(f"alert {alert.number}")
            waiting = waiting or (alert.state is AlertState.OPEN and not self._notifier.settled(message))
            self._settled = self._settled if waiting else alert.number
        return ", ".join(sent)

    def _message(self, alert: Alert) -> Message:
        told = hint(alert.rule, alert.subject, alert.risk, alert.facts, len(alert.evidence))
        evidence = evidence_lines([(one.at, one.source, one.text) for one in alert.evidence])
        return Message(
            model=self._model,
            alert="headlines",
            episode=str(alert.number),
            title=" ".join(printable(told).split()),
            at=datetime.now(UTC),
            body="\n".join([*evidence, f"judge it: perennial alerts confirm|dismiss {alert.number} -m {self._model}"]),
            severity=Severity.ALERT,
            facts={"alert": alert.number, "rule": alert.rule, "subject": alert.subject, "risk": alert.risk},
        )
