"""Tells people once: the ledger remembers what was sent."""

import logging
from collections.abc import Sequence

from perennial.continual.errors import ConfigurationError, PerennialError
from perennial.ops.ledger import Ledger
from perennial.ops.notify.channels import Channel
from perennial.ops.notify.message import Message

__all__ = ["Notifier"]

_log = logging.getLogger(__name__)


class Notifier:
    """Sends each episode's message once on each channel, whichever processes ask and however often.

    When a process dies between claim and delivery, the next call for the episode after ten minutes sends it; if the
    message did leave, the receiver gets it twice under one Idempotency-Key.
    """

    def __init__(self, ledger: Ledger, channels: Sequence[Channel], *, attempts: int = 3) -> None:
        names = [channel.name for channel in channels]
        if len(set(names)) != len(names):
            raise ConfigurationError(f"notification channels {sorted(names)} are not all different; give each a name")
        self._ledger = ledger
        self._channels = tuple(channels)
        self._attempts = attempts

    def notify(self, message: Message) -> tuple[str, ...]:
        """Send a message and return the names of the channels that took it now.

        Never raises for a channel: what failed is noted in the ledger, logged, and tried again at the next call for the
        same episode, `attempts` times in all.
        """
        return tuple(channel.name for channel in self._channels if self._send(channel, message))

    def settled(self, message: Message) -> bool:
        """Return whether nothing is left to do: each channel took the message, or failed `attempts` times."""
        notices = self._ledger.notices(message.model, episode=(message.alert, message.episode))
        rows = {row.channel: row for row in notices}
        return all(
            (row := rows.get(channel.name)) is not None
            and (row.sent_at is not None or (row.error is not None and row.attempts >= self._attempts))
            for channel in self._channels
        )

    def _send(self, channel: Channel, message: Message) -> bool:
        episode = (message.model, message.alert, message.episode, channel.name)
        if not self._ledger.claim_notice(*episode, attempts=self._attempts):
            return False
        try:
            channel.send(message)
        except PerennialError as error:
            _log.warning("notice.not_sent", extra={"channel": channel.name, "error": str(error)})
            self._ledger.finish_notice(*episode, error=str(error))
            return False
        self._ledger.finish_notice(*episode)
        return True
