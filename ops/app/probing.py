"""Probes of every model on every server, and which of their failures a restart of the embedded server may mend."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from perennial.continual.errors import DependencyUnreachable, PerennialError
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.probe import ChampionSilent, EngineWatch, Stalled, probe_router
from perennial.ops.serving.router_losses import RouterLosses

__all__ = ["ModelProbes", "RestartBudget"]

_AT_ONCE = 8
_ONE_RESTART_S = 600.0


class ModelProbes:
    """The newest probe of each model on one server."""

    def __init__(self, control: TritonControl, *, stall_limit_s: float, losses: RouterLosses) -> None:
        self.control, self._stall_limit_s, self._losses = control, stall_limit_s, losses
        self._engines = EngineWatch()
        self._guard = threading.Lock()
        self._failing: dict[str, PerennialError] = {}

    @property
    def failing(self) -> Mapping[str, PerennialError]:
        """The models that the last look found not to be served here, with the cause."""
        with self._guard:
            return dict(self._failing)

    def look(self, models: Iterable[str], *, timeout_s: float) -> Mapping[str, PerennialError]:
        """Probe these models, several at a time, and return those that fail: one that hangs hides no other."""
        asked = tuple(models)
        if len(asked) < 2:
            errors = [self._probe(model, timeout_s) for model in asked]
        else:
            with ThreadPoolExecutor(min(_AT_ONCE, len(asked)), "probe") as pool:
                errors = list(pool.map(lambda model: self._probe(model, timeout_s), asked))
        failing = {model: error for model, error in zip(asked, errors, strict=True) if error is not None}
        with self._guard:
            self._failing = failing
        return failing

    def _probe(self, model: str, timeout_s: float) -> PerennialError | None:
        control = self.control
        try:
            told = probe_router(
                control.url,
                model,
                control.parameters,
                self._engines,
                timeout_s=timeout_s,
                stall_limit_s=self._stall_limit_s,
            )
            self._losses.saw(model, control.url, told)
        except PerennialError as exc:
            return exc
        return None


class RestartBudget:
    """Keeps a model that no restart mends from taking the server away from the others again and again.

    While other models are answered, a failing one may cost one restart in ten minutes. Where nothing is answered, the
    server is at fault, and nothing is held back.
    """

    def __init__(self, restarts: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._restarts, self._clock = restarts, clock
        self._before: dict[str, int] = {}  # restarts there had been when the model began to fail
        self._spent: dict[str, float] = {}  # when the server was last restarted while the model failed

    def error(self, failing: Mapping[str, PerennialError], answered: int) -> PerennialError | None:
        """Return the error to judge the server by; None where none of them is worth a restart."""
        now, restarts = self._clock(), self._restarts()
        for model, before in self._before.items():
            if restarts > before:  # charged also where the model is well after it: it may fail again at once
                self._spent[model] = now
        self._before = dict.fromkeys(failing, restarts)
        heard = answered + sum(isinstance(error, ChampionSilent) for error in failing.values())
        worth = [
            error
            for model, error in failing.items()
            if not heard or now - self._spent.get(model, float("-inf")) >= _ONE_RESTART_S
        ]
        return min(worth, key=_rank, default=None)


def _rank(error: PerennialError) -> int:
    """What a restart is the likeliest to mend comes first: no progress, then no answer, then a refusal."""
    kinds = (Stalled, ChampionSilent, DependencyUnreachable)
    ranks = {Stalled: 0, DependencyUnreachable: 1, ChampionSilent: 3}
    return next((ranks[kind] for kind in kinds if isinstance(error, kind)), 2)
