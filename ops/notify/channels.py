"""A way by which messages reach people, and the simplest one: the log."""

import logging
from typing import Protocol

from perennial.ops.notify.message import Message, Severity

__all__ = ["Channel", "LogChannel"]

_log = logging.getLogger(__name__)
_LEVELS = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.ALERT: logging.ERROR}


class Channel(Protocol):
    """One way out. `name` is stable: with it the ledger remembers what was sent."""

    @property
    def name(self) -> str:
        """The channel's name, different for each."""
        ...

    def send(self, message: Message) -> None:
        """Deliver, trying again a bounded number of times.

        A retry by the caller may deliver twice; the receiver tells by the message's episode.

        Raises:
            DependencyUnreachable: the message was not taken.
        """
        ...


class LogChannel:
    """Writes each message into the log as an event, at the level of its severity."""

    name = "log"

    def send(self, message: Message) -> None:
        """Log the message."""
        _log.log(_LEVELS[message.severity], "notice", extra={"notice": message.values()})
