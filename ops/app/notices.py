"""Who is told of what, for every model of a service."""

from collections.abc import Callable

from perennial.ops.notify import Notifier
from perennial.ops.notify.alert_notifier import AlertNotifier
from perennial.ops.notify.event_notifier import RESTARTED, EventNotifier
from perennial.ops.parts import Parts
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.watching.quarantine_watch import note_quarantined

__all__ = ["Notices"]


class Notices:
    """A notifier of events for each model; restarts of the embedded server are told for all of them."""

    def __init__(self, parts: Parts, notifier: Notifier, restarts: Callable[[], int]) -> None:
        self._ledger, self._workspace = parts.ledger, parts.workspace
        self._notifier, self._restarts = notifier, restarts
        self._restarts_noted = 0
        self._notifiers: dict[str, EventNotifier] = {}
        self._of_headlines: dict[str, AlertNotifier] = {}

    def add(self, model: str) -> None:
        """Have people told of this model too."""
        self._notifiers = {**self._notifiers, model: EventNotifier(self._ledger, model, self._notifier)}
        self._of_headlines = {**self._of_headlines, model: AlertNotifier(self._workspace, model, self._notifier)}

    def notify(self, model: str) -> str:
        """Tell what happened to a model since the last time."""
        self._note_restarts()
        note_quarantined(self._ledger, model, traffic_of(self._workspace, model))
        told = (self._notifiers[model].notify(), self._of_headlines[model].notify())
        return ", ".join(part for part in told if part)

    def _note_restarts(self) -> None:
        """Put restarts of the embedded server into the audit log, from where people are told."""
        seen = self._restarts()
        if seen > self._restarts_noted:
            for name in self._notifiers:
                self._ledger.audit("loop", RESTARTED, name, {"restarts": seen})
            self._restarts_noted = seen
