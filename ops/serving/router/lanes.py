"""The queues of one router process, by what a request waits for, and what they tell together."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Generic, TypeVar

from perennial.ops.serving.router.admission import Limits, RequestQueue

__all__ = ["Lanes"]

T = TypeVar("T")


class Lanes(Generic[T]):
    """A lane for the champion's answers, one for the challenger's, and one for what takes long to read.

    All have the same limits. Safe to share between threads.

    >>> lanes = Lanes(Limits(), reads_slowly=False)
    >>> len(list(lanes)), lanes.waiting, lanes.stalled_s
    (2, 0, 0.0)
    """

    def __init__(self, limits: Limits, *, reads_slowly: bool) -> None:
        self.champion: RequestQueue[T] = RequestQueue(replace(limits, gathers=True))
        self.challenger: RequestQueue[T] = RequestQueue(limits)
        self.unread: RequestQueue[T] | None = RequestQueue(replace(limits, batch_rows=1)) if reads_slowly else None

    def __iter__(self) -> Iterator[RequestQueue[T]]:
        """Each that there is."""
        yield self.champion
        yield self.challenger
        if self.unread is not None:
            yield self.unread

    def progress(self) -> None:
        """Note that something came out of an engine. Whoever reads requests asks none: a hung one stays seen."""
        self.champion.progress()
        self.challenger.progress()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(lane.waiting for lane in self)

    @property
    def at_work(self) -> int:
        """Requests that are worked on."""
        return sum(lane.at_work for lane in self)

    @property
    def answered(self) -> int:
        """Requests with an answer; one that was read only waits for its own."""
        return self.champion.answered + self.challenger.answered

    @property
    def refused(self) -> int:
        """Requests that were not taken in."""
        return sum(lane.refused for lane in self)

    @property
    def expired(self) -> int:
        """Requests that waited too long."""
        return sum(lane.expired for lane in self)

    @property
    def stalled_s(self) -> float:
        """How long nothing has come out of the lane that gets on worst."""
        return max(lane.stalled_s() for lane in self)
