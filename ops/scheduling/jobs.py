"""What a job is, and which slot of it is due: arithmetic, without I/O."""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from perennial.continual.errors import ConfigurationError
from perennial.continual.policy.cron import next_time
from perennial.ops.ledger import Fence, JobRunRow, Ledger, RunOutcome

__all__ = ["Catch", "JobRun", "JobSpec", "Slot", "as_run"]

_NAME = re.compile(r"[a-z][a-z0-9_.:-]*")
_TOLERANCE = 0.1  # of an interval, by which a due time may lie further ahead: clocks are corrected by small steps
_LEAST_TOLERANCE = timedelta(milliseconds=100)


class Catch(StrEnum):
    """What happens to several slots that passed while nobody ran them."""

    LATEST = "latest"  # one run stands for all of them
    EACH = "each"  # every slot runs, one after the other


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """What an action gets: which slot it runs for, and the leader's proof.

    An action that a leader's death interrupted runs again under the next leader with the same `slot` and a higher
    `attempt`. To take effect exactly once, do the ledger's writes and `finish` in one `ledger.transaction()`, or make
    the effect depend on `slot` alone.
    """

    run_id: int
    job: str
    slot: datetime
    attempt: int
    fence: Fence
    ledger: Ledger = field(repr=False)

    def finish(self, note: str = "") -> None:
        """Note the run as done, as a part of the transaction around it."""
        self.ledger.finish_run(self.run_id, RunOutcome.DONE, note)

    def guard(self) -> None:
        """Call it right before a side effect outside the ledger.

        Raises:
            LeaseLost: another process leads now.
        """
        self.ledger.check_fence(self.fence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A due time to run for, the due time after it, and how many earlier ones it stands for."""

    at: datetime
    next_due: datetime
    skipped: int = 0
    expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One thing to do again and again: every `interval_s`, or at the times of a five-field `cron` line in UTC.

    While it is not due, it starts all the same when it is `wanted`, which is asked at every beat of the scheduler.

    A run that could start only `misfire_grace_s` after its slot or later is noted as missed instead; without it no run
    is too late. Jobs of one `lane` other than `default` never run at the same time. Those of one `group` never take all
    of the places that the default lane has, while there are other groups.
    """

    name: str
    action: Callable[[JobRun], str | None]  # its text, if any, is the run's note
    interval_s: float | None = None
    cron: str | None = None
    misfire_grace_s: float | None = None
    paused: bool = False
    catch: Catch = Catch.LATEST
    lane: str = "default"
    group: str = ""
    wanted: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"job name {self.name!r} must match {_NAME.pattern}, e.g. watch:intent")
        if (self.interval_s is None) == (self.cron is None):
            raise ConfigurationError(f"job {self.name} needs either interval_s or cron, not both or none")
        if self.interval_s is not None and not 0.01 <= self.interval_s <= 10 * 365 * 86_400:
            raise ConfigurationError(f"job {self.name}: interval_s {self.interval_s} must lie in [0.01, ten years]")
        if self.misfire_grace_s is not None and self.misfire_grace_s <= 0:
            raise ConfigurationError(f"job {self.name}: misfire_grace_s {self.misfire_grace_s} must be positive")
        if self.cron is not None:
            next_time(self.cron, datetime(2026, 1, 1, tzinfo=UTC))

    @property
    def trigger(self) -> dict[str, Any]:
        """The trigger as the ledger keeps it; a change of it moves the next due time."""
        return {"interval_s": self.interval_s} if self.cron is None else {"cron": self.cron}

    def first_due(self, now: datetime) -> datetime:
        """Return when a job that was never seen before runs first: one interval from now, or at the next cron time."""
        return self._after(now)

    def healed(self, due: datetime, now: datetime) -> datetime | None:
        """Return when a job whose due time lies too far ahead runs instead; None while the time is plausible.

        Nobody plans further ahead than one interval: such a time was written under a clock that was wrong.
        """
        latest = self._after(now)
        if due - latest <= max(_LEAST_TOLERANCE, (latest - now) * _TOLERANCE):
            return None
        # a slot of its own: the one at just this moment may have run before the clock was set back
        return latest + timedelta(microseconds=1 + secrets.randbelow(1_000))

    def slot(self, due: datetime, now: datetime) -> Slot | None:
        """Return the slot to run now for a job due at `due`, or None when it is not due yet, nor wanted before."""
        if due > now:
            is_wanted = self.wanted is not None and self.wanted()
            return Slot(at=now, next_due=self._after(now)) if is_wanted else None
        if self.catch is Catch.EACH:
            return Slot(at=due, next_due=self._after(due), expired=self._expired(due, now))
        if self.interval_s is not None:
            step = timedelta(seconds=self.interval_s)
            skipped = (now - due) // step
            at = due + skipped * step
            return Slot(at=at, next_due=at + step, skipped=skipped, expired=self._expired(at, now))
        at = due
        if self.misfire_grace_s is not None:  # the oldest slot that is not too late, if there is one
            floor = now - timedelta(seconds=self.misfire_grace_s)
            at = due if due >= floor else self._after(floor)
            if at > now:
                return Slot(at=due, next_due=at, expired=True)
        return Slot(at=at, next_due=self._after(now), skipped=int(at > due))

    def _expired(self, at: datetime, now: datetime) -> bool:
        return self.misfire_grace_s is not None and (now - at).total_seconds() > self.misfire_grace_s

    def _after(self, moment: datetime) -> datetime:
        if self.interval_s is not None:
            return moment + timedelta(seconds=self.interval_s)
        return next_time(str(self.cron), moment)


def as_run(row: JobRunRow, fence: Fence, ledger: Ledger) -> JobRun:
    """Return what the action of a claimed run gets."""
    return JobRun(run_id=row.id, job=row.job, slot=row.due, attempt=row.attempt, fence=fence, ledger=ledger)
