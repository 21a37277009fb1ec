"""What a running service does for a model's watch of events: its plan, its limit, and what is too old."""

import logging
from datetime import UTC, datetime, timedelta

from perennial.continual.errors import DataError
from perennial.ops.commands.event_watch import calibrate_limit, open_headlines
from perennial.ops.parts import Parts

__all__ = ["EventUpkeep"]

logger = logging.getLogger(__name__)
_CALIBRATE_EVERY = timedelta(days=1)
_TRY_AGAIN = timedelta(minutes=1)  # while there are too few headlines; they are counted and nothing more


class EventUpkeep:
    """One model's. The routers read what it writes with their next headline."""

    def __init__(self, parts: Parts, model: str) -> None:
        self._workspace, self.model = parts.workspace, model
        self._settings = parts.workspace.model(model).events
        self._keep = timedelta(days=parts.settings.traffic.retention_days)
        self._due: datetime | None = None

    def configure(self) -> None:
        """Have every router watch by the settings."""
        with open_headlines(self._workspace, self.model) as headlines:
            headlines.configure(self._settings.plan())

    def look_after(self) -> str:
        """Once a day find the limit anew and forget headlines older than the traffic log's; tells what was done."""
        now = datetime.now(UTC)
        if self._due is not None and now < self._due:
            return ""
        told = self._calibrated(now)
        with open_headlines(self._workspace, self.model) as headlines:
            burst = headlines.plan().events.burst
            pruned = headlines.prune(before=now - self._keep, keep=2 * (burst.base + burst.recent))
        return ", ".join(part for part in (told, f"{pruned} old ones forgotten" if pruned else "") if part)

    def _calibrated(self, now: datetime) -> str:
        try:
            found = calibrate_limit(
                self._workspace, self.model, false_alerts_per_day=self._settings.false_alerts_per_day
            )
        except DataError as exc:
            self._due = now + _TRY_AGAIN
            logger.info("events.not_calibrated", extra={"model": self.model, "reason": str(exc)})
            return ""
        self._due = now + _CALIBRATE_EVERY
        return f"limit {found.limit:.2f} of {found.headlines} headlines"
