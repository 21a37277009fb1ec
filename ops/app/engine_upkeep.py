"""Looks once, in a quiet time, whether another engine answers faster on this machine, and has it answer if so."""

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from perennial.continual.drift.monitor import Level
from perennial.continual.errors import Overtaken, Refused
from perennial.continual.records import Split
from perennial.continual.route import ExpectedRoute
from perennial.exporters.bundle import read_manifest
from perennial.exporters.tasks import room_of
from perennial.exporters.timing import processor_name
from perennial.ops.commands.engine_choice import EngineChoice, choose_engine_of, taken_meanwhile
from perennial.ops.commands.promotion import promote_version
from perennial.ops.parts import Parts
from perennial.ops.store.state import ENGINE_CHOICE, PAUSED, PROBATION, WATCH, ChosenEngine
from perennial.ops.watching.budget import IDLE, idle_share

__all__ = ["EngineUpkeep"]

logger = logging.getLogger(__name__)
_BACKEND, _ACTOR = "perennial_engine", "loop"
_LEAST_S, _MOST_S = 60.0, 86_400.0  # between two looks


class EngineUpkeep:
    """The choice of one model's engine. It is made once for an encoder and a processor, whatever comes of it."""

    def __init__(
        self, parts: Parts, model: str, leaving: threading.Event, idle: Callable[[], float] | None = None
    ) -> None:
        self._parts, self._model, self._leaving = parts, model, leaving
        self._idle = idle or idle_share()

    @property
    def is_wanted(self) -> bool:
        """Whether the settings leave the engine open and want it chosen."""
        settings = self._parts.workspace.model(self._model)
        wanted = settings.engine
        free = wanted.engine == wanted.precision == "auto" and not room_of(settings.task).engines()
        return free and wanted.choose_after_s > 0 and self._parts.settings.triton.engine_backend == _BACKEND

    @property
    def every_s(self) -> float:
        """Between two looks: one that builds two engines for as long as they may take does not count as hanging."""
        return min(_MOST_S, max(_LEAST_S, self._parts.workspace.model(self._model).engine.timeout_s))

    def look(self) -> str:
        """Choose, where it is time to; returns a note of what was done, empty where nothing was."""
        idle = self._idle()  # asked each time: it tells of the time since then
        champion = self._undecided(datetime.now(UTC))
        if champion is None or idle < IDLE:
            return ""
        try:
            choice = choose_engine_of(self._parts, self._model, actor=_ACTOR, cancel=self._leaving)
        except Refused as exc:  # the next champion has a choice of its own
            return str(exc)
        if self._leaving.is_set():
            return ""
        self._keep(champion, choice)  # first: a promotion that fails must not have it all done again
        if choice.version is None:
            return f"no faster engine than that of version {champion}"
        if why := self._hindrance(champion):
            return f"version {choice.version} is faster and waits for an operator: {why}"
        reason = f"the same model as version {champion} in a faster engine, by measuring"
        expected = ExpectedRoute(champion=champion)
        try:
            promote_version(self._parts, self._model, choice.version, actor=_ACTOR, reason=reason, expected=expected)
        except Overtaken as exc:
            return f"version {choice.version} is faster and waits for an operator: {exc}"
        logger.info("engine.chosen", extra={"model": self._model, "version": choice.version, "champion": champion})
        return f"version {choice.version} is version {champion} in a faster engine"

    def _undecided(self, now: datetime) -> int | None:
        """The champion whose engine is to be chosen now; None where there is none, or no choice."""
        parts, wanted = self._parts, self._parts.workspace.model(self._model).engine
        if not self.is_wanted:
            return None
        route = parts.ledger.route(self._model)
        if route is None or self._hindrance(route.champion):
            return None
        if not parts.ledger.example_count(self._model, Split.HOLDOUT):
            return None  # no engine could be proved
        since = parts.ledger.version(self._model, route.champion).state_at
        if since is None or now - since < timedelta(seconds=wanted.choose_after_s):
            return None
        chosen = ENGINE_CHOICE.read(parts.ledger, self._model)
        if chosen is not None and (chosen.processor, chosen.encoder) == (
            processor_name(),
            self._encoder(route.champion),
        ):
            return None
        return route.champion

    def _hindrance(self, champion: int) -> str:
        """Why nothing may take this champion's place now; empty where it may.

        A new champion's watch begins anew, with the traffic of that time as the reference: it would hide a drift.
        """
        ledger, model = self._parts.ledger, self._model
        if why := taken_meanwhile(self._parts, model, champion):
            return why
        if ledger.erasure_under_way(model) is not None:
            return "an erasure is under way"
        if PAUSED.read(ledger, model):
            return "rollouts are paused"
        if PROBATION.read(ledger, model) is not None:
            return f"version {champion} is on probation"
        watched = WATCH.read(ledger, model)
        drifts = watched is not None and watched.version == champion and watched.level is not Level.OK
        return "its traffic drifts, or may" if drifts else ""

    def _keep(self, champion: int, choice: EngineChoice) -> None:
        record = ChosenEngine(
            champion=champion,
            encoder=self._encoder(champion),
            processor=choice.processor,
            version=choice.version,
            at=datetime.now(UTC).isoformat(),
            tried=tuple(asdict(each) for each in choice.tried),
        )
        ENGINE_CHOICE.keep(self._parts.ledger, self._model, record)

    def _encoder(self, version: int) -> str:
        return read_manifest(self._parts.workspace.bundle(self._model, version)).encoder_fingerprint
