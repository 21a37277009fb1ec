"""Whether each model is answered right now, by asking the routers of every server."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from perennial.continual.errors import PerennialError
from perennial.ops.parts import Parts
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.probe import EngineWatch, probe_router
from perennial.ops.serving.tasks import serving_side

__all__ = ["Readiness"]

_READY_S = 2.0
_AT_ONCE = 8


class Readiness:
    """One look at a time: who asks meanwhile is told of the last one, however many ask."""

    def __init__(self) -> None:
        self._looking = threading.Lock()
        self._last: Mapping[str, Mapping[str, str]] | None = None

    def look(self, parts: Parts, models: tuple[str, ...]) -> Mapping[str, Mapping[str, str]]:
        """Return "ok" or the cause, by model and server."""
        before = self._last
        if self._looking.acquire(blocking=before is None):
            try:
                if self._last is before:
                    self._last = _states_of(parts, models)
            finally:
                self._looking.release()
        return self._last or {}


def _states_of(parts: Parts, models: tuple[str, ...]) -> Mapping[str, Mapping[str, str]]:
    pairs = [(model, control) for model in models for control in parts.controls]
    limit_s = parts.settings.triton.stall_limit_s
    with ThreadPoolExecutor(_AT_ONCE, "ready") as pool:
        away = dict(zip(parts.controls, pool.map(_why_away, parts.controls), strict=True)) if pairs else {}
        # a server that hangs does so for all models, however many: it is waited for once
        states = list(
            pool.map(lambda pair: away[pair[1]] or _whether_answered(parts, pair[0], pair[1], limit_s), pairs)
        )
    by_model: dict[str, dict[str, str]] = {}
    for (model, control), state in zip(pairs, states, strict=True):
        by_model.setdefault(model, {})[control.url] = state
    return by_model


def _why_away(control: TritonControl) -> str:
    try:
        control.wait_live(_READY_S)
    except PerennialError as exc:
        return str(exc)
    return ""


def _whether_answered(parts: Parts, model: str, control: TritonControl, limit_s: float) -> str:
    try:
        side = serving_side(parts.settings.task_of(model))
        progress = probe_router(control.url, model, side, control.parameters, EngineWatch(), timeout_s=_READY_S)
    except PerennialError as exc:
        return str(exc)
    still_s = progress.stalled_s
    return "ok" if still_s < limit_s else f"nothing has come out for {still_s:.0f} s"
