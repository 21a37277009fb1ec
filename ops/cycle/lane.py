"""Training takes turns: so many models train, export or judge at once, and the others wait in the order they came."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from perennial.continual.errors import LeaseLost, PerennialError
from perennial.ops.ledger.ports import State
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.state import LANE, LaneState

__all__ = ["LaneSeat", "Standing", "TrainingLane"]

logger = logging.getLogger(__name__)
_SILENT_S = 10.0  # who has not asked for so long is passed over, and keeps its turn for when it asks again


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Whether a model may work, or else behind which ones it waits: those at work, then those that came before it."""

    works: bool
    behind: tuple[str, ...] = ()


class TrainingLane:
    """Heavy work of all models of one process. Who asks again and again gets a place in its turn.

    Nothing here waits: a model that has no place goes on being watched, aborted, rolled back.

    >>> lane = TrainingLane(places=1)
    >>> lane.ask("a").works, lane.ask("b").works, lane.ask("b").behind
    (True, False, ('a',))
    >>> lane.leave("a")
    >>> lane.ask("b").works
    True
    """

    def __init__(self, places: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._places, self._clock = places, clock
        self._guard = threading.Lock()
        self._at_work: list[str] = []
        self._asked: dict[str, float] = {}  # who waits, in the order they came, and when each asked last

    def ask(self, model: str) -> Standing:
        """Take a place where one is free and it is this model's turn; asked again by its holder, it keeps it."""
        with self._guard:
            if model in self._at_work:
                return Standing(works=True)
            now = self._clock()
            self._asked[model] = now
            waiting = [name for name, at in self._asked.items() if now - at <= _SILENT_S]
            if waiting.index(model) < self._places - len(self._at_work):
                del self._asked[model]
                self._at_work.append(model)
                return Standing(works=True)
            return Standing(works=False, behind=(*self._at_work, *waiting[: waiting.index(model)]))

    def leave(self, model: str) -> None:
        """Free the place, or wait no longer. Harmless without either."""
        with self._guard:
            self._asked.pop(model, None)
            if model in self._at_work:
                self._at_work.remove(model)


class LaneSeat:
    """One model's part of a lane. Its standing is in the ledger, for `perennial status` and the API."""

    def __init__(self, lane: TrainingLane, ledger: State, model: str, feed: EventFeed) -> None:
        self._lane, self._ledger, self._model, self._feed = lane, ledger, model, feed
        self._noted: Standing | None = None
        self._checked = False  # whether what an earlier process noted was looked at

    def may_work(self) -> bool:
        """Whether heavy work may begin or go on; if not, ask again soon."""
        standing = self._lane.ask(self._model)
        if standing != self._noted:
            self._note(standing)
        return standing.works

    def leave(self) -> None:
        """Free the place; what cannot be noted is noted by the next change."""
        self._lane.leave(self._model)
        if self._noted is None and self._checked:
            return
        try:
            if self._noted is not None or LANE.read(self._ledger, self._model) is not None:
                self._note(None)
            self._checked = True
        except LeaseLost:
            raise
        except PerennialError as exc:
            logger.warning("lane.not_noted", extra={"model": self._model, "error": str(exc)})

    def give_up(self) -> None:
        """Free the place without a note: another process may lead now, and its notes count."""
        self._lane.leave(self._model)
        self._noted, self._checked = None, False

    def _note(self, standing: Standing | None) -> None:
        LANE.keep(self._ledger, self._model, None if standing is None else _kept(standing))
        self._noted = standing
        if standing is not None:
            name = "lane.works" if standing.works else "lane.waits"
            self._feed.record(self._model, name, behind=list(standing.behind))


def _kept(standing: Standing) -> LaneState:
    return LaneState(works=standing.works, behind=standing.behind, since=datetime.now(UTC).isoformat())
