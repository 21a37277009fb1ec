"""Probes of every model on every server, and which of their failures a restart of the embedded server may mend."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from perennial.continual.errors import DependencyUnreachable, PerennialError
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.port import ServingSide
from perennial.ops.serving.probe import ChampionSilent, EngineWatch, Stalled, probe_router
from perennial.ops.serving.router_losses import RouterLosses

__all__ = ["ModelProbes", "RestartBudget"]

_AT_ONCE = 16
_LIVE = 2.0  # times the limit of a probe: so long may a server take to say that it lives
_ONE_RESTART_S = 600.0
_ASKED_AGAIN_S = 60.0  # who was refused a restart and asks no more needs none any more


class ModelProbes:
    """The newest probe of each model on one server."""

    def __init__(
        self,
        control: TritonControl,
        *,
        side_of: Callable[[str], ServingSide],
        stall_limit_s: float,
        losses: RouterLosses,
    ) -> None:
        self.control, self._side_of = control, side_of
        self._stall_limit_s, self._losses = stall_limit_s, losses
        self._engines = EngineWatch()
        self._guard = threading.Lock()
        self._failing: dict[str, PerennialError] = {}

    @property
    def failing(self) -> Mapping[str, PerennialError]:
        """The models that the last look found not to be served here, with the cause."""
        with self._guard:
            return dict(self._failing)

    def look(self, models: Iterable[str], *, timeout_s: float) -> Mapping[str, PerennialError]:
        """Probe these models, several at a time, and return those that fail: one that hangs hides no other.

        A server that does not even say that it lives is asked for no model: it hangs for all of them, however many.
        """
        served = tuple(models)
        errors: list[PerennialError | None]
        if served and (away := self._away(_LIVE * timeout_s)) is not None:
            errors = [away] * len(served)
        elif len(served) < 2:
            errors = [self._probe(model, timeout_s) for model in served]
        else:
            with ThreadPoolExecutor(min(_AT_ONCE, len(served)), "probe") as pool:
                errors = list(pool.map(lambda model: self._probe(model, timeout_s), served))
        failing = {model: error for model, error in zip(served, errors, strict=True) if error is not None}
        with self._guard:
            self._failing = failing
        return failing

    def _away(self, timeout_s: float) -> DependencyUnreachable | None:
        try:
            self.control.wait_live(timeout_s)
        except DependencyUnreachable as exc:
            return exc
        return None

    def _probe(self, model: str, timeout_s: float) -> PerennialError | None:
        control = self.control
        try:
            progress = probe_router(
                control.url,
                model,
                self._side_of(model),
                control.parameters,
                self._engines,
                timeout_s=timeout_s,
                stall_limit_s=self._stall_limit_s,
            )
            self._losses.saw(model, control.url, progress)
        except PerennialError as exc:
            return exc
        return None


class RestartBudget:
    """Keeps a model that no restart mends from taking the server away from the others again and again.

    While other models are answered, one that fails or loses a process may cost one restart in ten minutes. Where
    nothing is answered, the server is at fault, and nothing is held back. Safe to share between threads.
    """

    def __init__(self, restarts: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._restarts, self._clock = restarts, clock
        self._guard = threading.Lock()
        self._before: dict[str, int] = {}  # restarts there had been when the model began to fail
        self._lost: dict[str, int] = {}  # and when a process of it was lost for which a restart was allowed
        self._spent: dict[str, float] = {}  # when the server was last restarted while the model failed
        self._refused: dict[str, float] = {}  # when a restart was last asked for because a process of it is gone

    @property
    def held(self) -> frozenset[str]:
        """The models that lost a process and wait for a restart, which the others are spared for now."""
        with self._guard:
            return frozenset(m for m, at in self._refused.items() if self._clock() - at < _ASKED_AGAIN_S)

    def error(self, failing: Mapping[str, PerennialError], answered: int) -> PerennialError | None:
        """Return the error to judge the server by; None where none of them is worth a restart."""
        with self._guard:
            self._charge()
            answering = answered + sum(isinstance(error, ChampionSilent) for error in failing.values())
            self._before = dict.fromkeys(failing if answering else (), self._restarts())  # else it is no model's fault
            worth = [error for model, error in failing.items() if not answering or not self._is_spent(model)]
        return min(worth, key=_rank, default=None)

    def allows(self, model: str, *, others_answered: int) -> bool:
        """Whether the server may be restarted now because a process of this model is gone."""
        with self._guard:
            self._charge()
            if others_answered and self._is_spent(model):
                self._refused[model] = self._clock()
                return False
            self._lost[model] = self._restarts()
            self._refused.pop(model, None)
            return True

    def _charge(self) -> None:
        """Note who was the cause of a restart, also where the model is well after it: it may fail again at once."""
        restarts, now = self._restarts(), self._clock()
        for causes in (self._before, self._lost):
            for model in [model for model, before in causes.items() if restarts > before]:
                self._spent[model] = now
                del causes[model]

    def _is_spent(self, model: str) -> bool:
        return self._clock() - self._spent.get(model, float("-inf")) < _ONE_RESTART_S


def _rank(error: PerennialError) -> int:
    """What a restart is the likeliest to mend comes first: no progress, then no answer, then a refusal."""
    kinds = (Stalled, ChampionSilent, DependencyUnreachable)
    ranks = {Stalled: 0, DependencyUnreachable: 1, ChampionSilent: 3}
    return next((ranks[kind] for kind in kinds if isinstance(error, kind)), 2)
