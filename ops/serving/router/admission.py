"""Requests that wait for their answers: bounded, refused early when they would wait too long, dropped when too late."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from perennial.continual.errors import DependencyUnreachable
from perennial.ops.serving.hold import PATIENCE_S, Hold
from perennial.ops.serving.router.pace import Pace

__all__ = ["Limits", "Overloaded", "QueuedRequest", "RequestQueue", "TooLate"]

T = TypeVar("T")
_ROW_COST = 32  # what a row costs beside its characters
_COUNTED_BYTES = 2_000  # of a text; models read no more of it
_TRUSTED_S = 1.0  # so long must requests have waited without a pause before an estimate refuses one


class Overloaded(DependencyUnreachable):
    """More is asked than can be answered in time; worth another try after `retry_after_s`."""

    def __init__(self, why: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{why}; retry after {retry_after_s:.1f} s")


class TooLate(Overloaded):
    """The time that the caller gave has passed, or its answer could not have come in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may wait. `wait_s` is the longest that a request waits before it is worked on."""

    wait_s: float = 10.0
    rows: int = 8_192
    bytes: int = 64 * 2**20
    batch_rows: int = 64
    batch_cost: int = 64 * (_ROW_COST + _COUNTED_BYTES)
    gathers: bool = False  # whether a batch waits a moment for those who have just been answered


@dataclass(slots=True, kw_only=True, eq=False)
class QueuedRequest(Generic[T]):
    """One request on its way. `deadline` is on the queue's clock; a `probe` is no traffic."""

    item: T
    rows: int
    bytes: int
    cost: int
    deadline: float | None
    probe: bool
    arrived: float = 0.0
    answered: bool = False  # its caller has been sent something

    @staticmethod
    def cost_of(lengths: Sequence[int]) -> int:
        """What rows of so many bytes cost, in a unit of this queue's own."""
        return sum(_ROW_COST + min(length, _COUNTED_BYTES) for length in lengths)


class RequestQueue(Generic[T]):
    """First come, first served, in batches. Safe to share between threads."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)
        self._left = threading.Condition(self._lock)
        self._waiting: deque[QueuedRequest[T]] = deque()
        self._late: list[QueuedRequest[T]] = []  # found too late to be begun, and not told yet
        self._at_work: set[QueuedRequest[T]] = set()
        self._rows = self._bytes = self._cost = 0  # of those that wait
        self._cost_at_work = 0
        self._callers = 0  # requests that wait or are at work
        self._rows_since_breath = 0
        self._pace = Pace()
        self._crowded_since: float | None = None
        self._hold = Hold(limits.batch_rows)
        self._first, self._began = 0, 0.0  # requests of the batch that began while none was at work, and when
        self._progress_at = clock()
        self.answered = self.refused = self.expired = 0

    def check(self, *, rows: int, size: int, cost: int, deadline: float | None) -> None:
        """Return where such a request would be taken now.

        Raises:
            Overloaded: too much waits, or it would wait for too long.
            TooLate: its deadline is in the past.
        """
        with self._lock:
            self._check(rows, size, cost, deadline)

    def offer(self, queued: QueuedRequest[T]) -> None:
        """Take a request in; a probe goes before all traffic and is never refused.

        Raises:
            Overloaded, TooLate: as of `check`.
        """
        with self._lock:
            if not queued.probe:
                self._check(queued.rows, queued.bytes, queued.cost, queued.deadline)
            now = self._clock()
            queued.arrived = queued.arrived or now  # one that waited in another queue before has waited since then
            if queued.probe:
                self._waiting.appendleft(queued)
            else:
                self._waiting.append(queued)
            self._rows, self._bytes = self._rows + queued.rows, self._bytes + queued.bytes
            self._cost += queued.cost
            self._rows_since_breath += queued.rows
            if not self._at_work:
                self._pace.start(now)
            self._count_in(queued, now)
            self._came.notify()

    def begin(self, batch: list[QueuedRequest[T]]) -> bool:
        """Have a batch at work without waiting; False, and nothing done, where others wait or are worked on."""
        with self._lock:
            if self._waiting or self._at_work or self._held(len(batch), sum(queued.rows for queued in batch)) > 0.0:
                return False
            now = self._clock()
            self._pace.start(now)
            for queued in batch:
                queued.arrived = now
                self._count_in(queued, now)
            self._begin(batch)
            return True

    def take(
        self,
        wait_s: float | None = None,
        *,
        alike: Callable[[QueuedRequest[T], QueuedRequest[T]], bool] = lambda first, other: True,
    ) -> list[QueuedRequest[T]]:
        """The next batch, which is at work until each of it is `finish`ed; waits for one, empty after `wait_s`.

        It ends before a request that is not `alike` its first one. What misses its deadline is left to `overdue`.
        """
        with self._lock:
            if not self._wait_for_batch(wait_s):
                return []
            batch: list[QueuedRequest[T]] = []
            rows, cost, now = 0, 0, self._clock()
            while self._waiting:
                queued = self._waiting[0]
                if self._misses_deadline(queued, now):
                    self._drop(queued)
                    self._late.append(queued)
                    continue
                full = rows + queued.rows > self.limits.batch_rows or cost + queued.cost > self.limits.batch_cost
                if batch and (full or not alike(batch[0], queued)):
                    break
                self._drop(queued)
                batch.append(queued)
                rows, cost = rows + queued.rows, cost + queued.cost
            if batch:
                self._begin(batch)
            if not self._waiting:
                self._crowded_since = None
            elif self._crowded_since is None:
                self._crowded_since = self._clock()
            self._left.notify_all()
            return batch

    def finish(self, queued: QueuedRequest[T], *, good: bool) -> None:
        """The request was answered, or with `good` false told why not."""
        with self._lock:
            now = self._clock()
            self._at_work.discard(queued)
            self._cost_at_work -= queued.cost
            self._callers -= 1
            crowded = bool(self._waiting) or bool(self._at_work)
            if self.limits.gathers and not self._at_work:
                self._hold.answered(self._first, began=self._began, now=now)
                if self._waiting:  # a thread that is woken for nothing takes time from the answer on its way out
                    self._came.notify_all()
            if good:
                self._pace.add(queued.cost, now, crowded=crowded)
                self._progress_at = now
                self.answered += not queued.probe

    def progress(self) -> None:
        """Note that something came out of an engine: a part of a request, say."""
        self._progress_at = self._clock()

    def overdue(self, gone: Callable[[QueuedRequest[T]], bool] = lambda queued: False) -> list[QueuedRequest[T]]:
        """Take out what is too late to be worked on, and what `gone` says nobody waits for any more."""
        with self._lock:
            now = self._clock()
            late = [queued for queued in self._waiting if self._is_late(queued, now)]
            old = [queued for queued in self._waiting if now - queued.arrived > 0.5 and not queued.probe]
            for queued in late:
                self._drop(queued)
            late += self._late
            self._late = []
            self._callers -= len(late)
            self.expired += len(late)
        dropped = set(late)
        left = [
            queued for queued in old if queued not in dropped and gone(queued)
        ]  # outside the lock: it may take its time
        with self._lock:
            waiting = set(self._waiting) if left else set()
            left = [queued for queued in left if queued in waiting]
            for queued in left:
                self._drop(queued)
                self._callers -= 1
            if not self._waiting:
                self._crowded_since = None
        return late + left

    def claim(self, queued: QueuedRequest[T]) -> bool:
        """Whether its caller is to be told now: true once."""
        with self._lock:
            claimed, queued.answered = queued.answered, True
            return not claimed

    def slow_probes(self, after_s: float) -> list[QueuedRequest[T]]:
        """Probes whose sender has waited for so long."""
        with self._lock:
            now = self._clock()
            return [
                queued
                for queued in (*self._waiting, *self._at_work)
                if queued.probe and not queued.answered and now - queued.arrived >= after_s
            ]

    def hint(self) -> float:
        """Seconds after which another try is worth it."""
        with self._lock:
            return self._hint(self._wait())

    def breathe(self, wait_s: float) -> None:
        """Wait a moment while a whole batch waits already: another process of the router may take the next one.

        Once for each batch that came: a moment for each request would leave those of an overload where nobody refuses.
        """
        with self._lock:
            if min(self._rows, self._rows_since_breath) >= self.limits.batch_rows:
                self._rows_since_breath = 0
                self._left.wait(wait_s)

    @property
    def is_busy(self) -> bool:
        """Whether anything waits or is at work."""
        return self._callers > 0

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def at_work(self) -> int:
        """Requests that are worked on."""
        return len(self._at_work)

    def stalled_s(self) -> float:
        """How long nothing has come out although something is at work; 0 when nothing is to be done."""
        with self._lock:
            return max(0.0, self._clock() - self._progress_at) if self._callers else 0.0

    def too_late(self, queued: QueuedRequest[T]) -> TooLate | Overloaded:
        """Why a request was taken out by `overdue`."""
        with self._lock:
            now, hint = self._clock(), self._hint(self._wait())
            waited, ready = now - queued.arrived, now + self._pace.seconds(queued.cost)
        if queued.deadline is not None and (waited <= self.limits.wait_s or ready >= queued.deadline):
            return TooLate(
                f"its answer would come after the deadline of the request, which waited {waited:.1f} s", hint
            )
        return Overloaded(f"the request has waited for {waited:.1f} s", hint)

    def _wait_for_batch(self, wait_s: float | None) -> bool:
        """Wait until a batch is to begin; False where nothing waits after `wait_s`."""
        end = None if wait_s is None else time.monotonic() + wait_s
        while True:
            pause = self._pause()
            left = None if end is None else end - time.monotonic()
            if pause == 0.0:
                return True
            if left is not None and left <= 0.0:
                return bool(self._waiting)
            self._came.wait(left if pause is None else pause if left is None else min(pause, left))

    def _pause(self) -> float | None:
        """How long the next batch still waits for more; None as long as nothing waits."""
        if not self._waiting:
            return None
        first = self._waiting[0]
        if first.probe or not self.limits.gathers:
            return 0.0
        if self._at_work:
            if self._hold.fills_second(self._rows, sum(queued.rows for queued in self._at_work)):
                return 0.0
            return max(0.0, min(map(self._patient_until, self._waiting)) - self._clock())
        return self._held(len(self._waiting), self._rows)

    def _patient_until(self, queued: QueuedRequest[T]) -> float:
        """So long it waits for the batch before it; where it has a deadline, half of the time that this leaves."""
        spare = math.inf
        if queued.deadline is not None:
            spare = (queued.deadline - queued.arrived - self._pace.seconds(queued.cost)) / 2
        return queued.arrived + min(PATIENCE_S, spare)

    def _held(self, requests: int, rows: int) -> float:
        """How long so many wait for those who were answered a moment ago, and may ask again at once."""
        return max(0.0, self._hold.until(requests, rows) - self._clock())

    def _check(self, rows: int, size: int, cost: int, deadline: float | None) -> None:
        now, wait = self._clock(), self._wait()
        if deadline is not None and now >= deadline:
            self.refused += 1
            raise TooLate("the deadline of the request has passed already", self._hint(wait))
        if self._waiting and (self._rows + rows > self.limits.rows or self._bytes + size > self.limits.bytes):
            self.refused += 1
            raise Overloaded(f"{len(self._waiting)} requests with {self._rows} texts wait already", self._hint(wait))
        if self._crowded_since is None or now - self._crowded_since < _TRUSTED_S:
            return
        allowed = self.limits.wait_s
        if deadline is not None:
            allowed = min(allowed, deadline - now - self._pace.seconds(cost))
        if wait > allowed:
            self.refused += 1
            raise Overloaded(
                f"the request would wait for {wait:.1f} s (limit {max(0.0, allowed):.1f} s)", self._hint(wait)
            )

    def _wait(self) -> float:
        return self._pace.seconds(self._cost + self._cost_at_work)

    def _hint(self, wait: float) -> float:
        """When half of what may wait will have been answered, and never longer than anybody waits here."""
        return min(self.limits.wait_s, max(0.2, wait - self.limits.wait_s / 2))

    def _is_late(self, queued: QueuedRequest[T], now: float) -> bool:
        return self._misses_deadline(queued, now) or (not queued.probe and now - queued.arrived > self.limits.wait_s)

    def _misses_deadline(self, queued: QueuedRequest[T], now: float) -> bool:
        if queued.deadline is None:
            return False
        if now + self._left_s(now) + self._pace.seconds(queued.cost) < queued.deadline:
            return False
        return now >= queued.deadline or bool(self._at_work)  # an estimate alone never keeps the last one out

    def _left_s(self, now: float) -> float:
        """How long what is at work still takes: an engine answers it before what begins now."""
        return max(0.0, self._pace.seconds(self._cost_at_work) - (now - self._pace.since)) if self._at_work else 0.0

    def _count_in(self, queued: QueuedRequest[T], now: float) -> None:
        self._progress_at = self._progress_at if self._callers else now
        self._callers += 1

    def _begin(self, batch: list[QueuedRequest[T]]) -> None:
        if not self._at_work:
            self._first, self._began = len(batch), self._clock()
        self._at_work.update(batch)
        for queued in batch:
            self._cost_at_work += queued.cost

    def _drop(self, queued: QueuedRequest[T]) -> None:
        self._waiting.remove(queued)
        self._rows, self._bytes = self._rows - queued.rows, self._bytes - queued.bytes
        self._cost -= queued.cost
