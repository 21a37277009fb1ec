"""The models of a service, each with its loop; one that is broken takes no other with it."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType

from perennial.ops.app.model_loop import AskEngine, ModelLoop
from perennial.ops.cycle.lane import TrainingLane
from perennial.ops.cycle.waiting import utc_now
from perennial.ops.ledger import Fence
from perennial.ops.parts import Parts
from perennial.ops.store.happenings import Happenings

__all__ = ["ModelRoster"]

logger = logging.getLogger(__name__)


class ModelRoster:
    """Which models this process serves, and the loop of each.

    What it gives is replaced and never changed in place, so that threads may go through it while models come.
    """

    def __init__(
        self,
        parts: Parts,
        happenings: Happenings,
        *,
        ask: AskEngine,
        lead: Callable[[], Fence],
        deletes_by: Callable[[], datetime] = utc_now,
    ) -> None:
        self._happenings, self._ask, self._lead, self._deletes_by = happenings, ask, lead, deletes_by
        self._lane = TrainingLane(parts.settings.schedule.trainings_at_once)
        self.parts = parts
        self._loops: dict[str, ModelLoop] = {}
        self._broken: dict[str, str] = {}
        for name in parts.settings.models:
            self._add(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The models to serve: those that have a loop, and those whose loop could not be made."""
        return (*self._loops, *self._broken)

    @property
    def loops(self) -> Mapping[str, ModelLoop]:
        """The models that are watched and retrained."""
        return MappingProxyType(self._loops)

    @property
    def broken(self) -> Mapping[str, str]:
        """The models that are served, and not watched and retrained, with the reason."""
        return MappingProxyType(self._broken)

    def _add(self, name: str) -> None:
        try:
            loop = ModelLoop(self.parts, name, self._happenings, self._ask, self._lead, self._lane, self._deletes_by)
        except Exception as exc:  # whatever is wrong with one model, the others are to be served
            logger.exception("model.broken", extra={"model": name})
            self._broken = {**self._broken, name: f"{type(exc).__name__}: {exc}"}
        else:
            self._loops = {**self._loops, name: loop}
