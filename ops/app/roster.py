"""The models of a service, each with its loop; one that is broken takes no other with it."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from perennial.continual.jobs.warm import WarmJobs
from perennial.ops.app.housekeeping import Housekeeping
from perennial.ops.app.model_loop import AskEngine, ModelLoop
from perennial.ops.cycle.lane import TrainingLane
from perennial.ops.cycle.waiting import utc_now
from perennial.ops.ledger import Fence
from perennial.ops.parts import Parts
from perennial.ops.settings import ModelSettings, RefusedModel, Settings
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace

__all__ = ["ModelRoster"]

logger = logging.getLogger(__name__)


class ModelRoster:
    """Which models this process serves, and the loop of each.

    What it gives is replaced and never changed in place, so that threads may go through it while models come and go.
    `parts` are those of the workspace with the models of now.
    """

    def __init__(
        self,
        parts: Parts,
        feed: EventFeed,
        *,
        ask: AskEngine,
        lead: Callable[[], Fence],
        deletes_by: Callable[[], datetime] = utc_now,
        warm: WarmJobs | None = None,
    ) -> None:
        self._feed, self._ask, self._lead, self._deletes_by = feed, ask, lead, deletes_by
        self._warm = warm
        self._lane = TrainingLane(parts.settings.schedule.trainings_at_once)
        self.parts = parts
        self._loops: dict[str, ModelLoop] = {}
        self._broken: dict[str, str] = {}  # served, and no more
        self._unusable: dict[str, str] = {}  # never served yet
        self._take(parts.settings.models, parts.settings.refused)

    @property
    def names(self) -> tuple[str, ...]:
        """The models to serve: those that have a loop, and those that lost theirs."""
        return (*self._loops, *self._broken)

    @property
    def loops(self) -> Mapping[str, ModelLoop]:
        """The models that are watched and retrained."""
        return MappingProxyType(self._loops)

    @property
    def broken(self) -> Mapping[str, str]:
        """The models that have no loop, with the reason: those that serve a version go on serving it."""
        return MappingProxyType({**self._broken, **self._unusable})

    @property
    def unserved(self) -> tuple[str, ...]:
        """The models that the ledger knows and this process does not serve: removed ones, and such as nobody names."""
        return tuple(row.name for row in self.parts.ledger.models() if row.name not in self.names)

    def rows_of(self, model: str) -> Housekeeping:
        """What is to be done for the rows of a model that has no loop."""
        return Housekeeping(self.parts, model, traffic_of(self.parts.workspace, model), self._deletes_by)

    def follow(self, settings: Settings) -> tuple[str, ...]:
        """Take up the models that these settings name beside the known ones, or mend, and return which.

        The settings of those that have a loop stay as they were when it was made.
        """
        new = {name: section for name, section in settings.models.items() if name not in self._loops}
        self._use({**self.parts.settings.models, **new}, settings.refused)
        self.parts.reconciler.follow(self.parts.workspace)
        return self._take(new, settings.refused)

    def drop(self, name: str) -> ModelLoop | None:
        """Forget a model, and return its loop, which is to be stopped."""
        loop = self._loops.get(name)
        self._loops = {other: kept for other, kept in self._loops.items() if other != name}
        self._broken = {other: why for other, why in self._broken.items() if other != name}
        models = {other: section for other, section in self.parts.settings.models.items() if other != name}
        self._use(models, self.parts.settings.refused)
        return loop

    def _use(self, models: Mapping[str, ModelSettings], refused: Mapping[str, RefusedModel]) -> None:
        settings = self.parts.settings.with_models(models, refused)
        self.parts = replace(self.parts, settings=settings, workspace=Workspace(settings))

    def _take(self, names: Iterable[str], refused: Mapping[str, RefusedModel]) -> tuple[str, ...]:
        """Make the loops of these models, note the refused ones, and return whose state is another one now."""
        changed = list[str]()
        for name in names:
            was_broken = name in self._broken
            self._add(name)
            changed += [name] if name in self._loops or not was_broken else []
        known = {row.name for row in self.parts.ledger.models()} if refused else set()
        lost = {name: model.problem for name, model in refused.items() if name not in self._loops}
        self._unusable = {name: why for name, why in lost.items() if name not in known}
        for name, why in lost.items():
            if name in known:
                changed += [] if name in self._broken else [name]
                self._broken = {**self._broken, name: why}
        return tuple(changed)

    def _add(self, name: str) -> None:
        try:
            loop = ModelLoop(
                self.parts, name, self._feed, self._ask, self._lead, self._lane, self._deletes_by, self._warm
            )
        except Exception as exc:  # whatever is wrong with one model, the others are to be served
            logger.exception("model.broken", extra={"model": name})
            self._broken = {**self._broken, name: f"{type(exc).__name__}: {exc}"}
        else:
            self._loops = {**self._loops, name: loop}
            self._broken = {other: why for other, why in self._broken.items() if other != name}
