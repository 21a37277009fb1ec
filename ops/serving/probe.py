"""Whether a router really answers: an idle one asks the champion's engine, a busy one tells how it gets on."""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import count
from typing import Any

from perennial.client.inference import grpc_input
from perennial.client.tensors import strings
from perennial.continual.errors import DependencyUnreachable, PublishFailed
from perennial.continual.records import Arm, Route
from perennial.exporters.contract import KEY, PROGRESS
from perennial.ops.serving.control import triton_errors
from perennial.ops.serving.port import ServingSide
from perennial.ops.serving.router.progress import Progress
from perennial.ops.serving.router.route import pick_arm

__all__ = ["STALL_LIMIT_S", "ChampionSilent", "EngineWatch", "Stalled", "probe_router"]

STALL_LIMIT_S = 30.0  # callers wait, and so long nothing may come out; more than the longest batch takes
_PATIENCE = 4.0  # a server whose answers go on coming out is given so many times the time
_CANARY = Route(model="any", epoch=1, champion=1, challenger=2, share=0.999, resident=(1, 2))


class Stalled(DependencyUnreachable):
    """Callers wait, and for a long time nothing has come out of their router."""


class EngineWatch:
    """Since when each engine's count of answers stands still, as far as anybody has looked. For one server."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def still_s(self, engine: str, count: int) -> float:
        """Seconds since the count was first seen as it is now."""
        now = time.monotonic()
        if self._seen.get(engine, (-1, 0.0))[0] != count:
            self._seen[engine] = (count, now)
        return now - self._seen[engine][1]

    def forget(self, engine: str) -> None:
        """Nobody waits for it any more."""
        self._seen.pop(engine, None)


class ChampionSilent(PublishFailed):
    """The champion does not answer, and the version before it does in its place: nobody goes without an answer."""


def probe_router(
    url: str,
    model: str,
    side: ServingSide,
    parameters: Mapping[str, str],
    watch: EngineWatch,
    *,
    timeout_s: float = 5.0,
    stall_limit_s: float = STALL_LIMIT_S,
) -> Progress:
    """See whether a router gets on. An idle one asks the champion; a busy one tells whether its answers come out.

    The probe never waits behind traffic. A reply that does not come in `timeout_s` is waited for longer while Triton
    counts new answers: a slow server is no hung one. `parameters` are `TritonControl.parameters`, by which it is known.

    Raises:
        ChampionSilent: another version answers in the champion's place.
        Stalled: callers wait, and nothing has come out of router and engine for `stall_limit_s`, or of the router for
            four times as long.
        DependencyUnreachable: no reply.
        NotFound: no such model; PublishFailed: the champion does not answer.
    """
    from tritonclient.grpc import InferenceServerClient

    options = [("grpc.use_local_subchannel_pool", 1)]
    with triton_errors(url, f"probing {model}"), InferenceServerClient(url, channel_args=options) as client:
        before = _successes(client, model, timeout_s)
        try:
            progress = _ask(client, url, model, side, parameters, timeout_s)
        except DependencyUnreachable:
            if _successes(client, model, timeout_s) <= before:
                raise
            progress = _ask(client, url, model, side, parameters, _PATIENCE * timeout_s)
        still_s = 0.0
        if progress.stalled_s:  # another router's batches may be before its own
            still_s = watch.still_s(progress.engine, _successes(client, progress.engine, timeout_s))
        else:
            watch.forget(progress.engine)
    if progress.error:
        raise PublishFailed(f"probing {model}: router process {progress.process} at {url} says: {progress.error}")
    if progress.is_stalled(engine_still_s=still_s, limit_s=stall_limit_s):
        raise Stalled(
            f"probing {model}: router process {progress.process} at {url} has {progress.at_work} requests at work and "
            f"{progress.waiting} waiting, and nothing has come out for {progress.stalled_s:.0f} s "
            f"(limit {stall_limit_s:g})"
        )
    if progress.substituted:
        raise ChampionSilent(
            f"the champion of {model} at {url} does not answer, the version before it does in its place; "
            f"see Triton's log, and make another version champion with `perennial model rollback`"
        )
    return progress


def _ask(
    client: Any, url: str, model: str, side: ServingSide, parameters: Mapping[str, str], timeout_s: float
) -> Progress:
    from tritonclient.grpc import InferRequestedOutput

    tensors = {**side.request([side.probe]), KEY: strings(KEY, [_champions_key(model)])}
    with triton_errors(url, f"probing {model}"):
        result = client.infer(
            model,
            [grpc_input(name, array) for name, array in tensors.items()],
            outputs=[InferRequestedOutput(PROGRESS)],
            client_timeout=timeout_s,
            parameters=dict(parameters),
        )
    return Progress.read(result.as_numpy(PROGRESS)[0, 0].decode())


def _successes(client: Any, model: str, timeout_s: float) -> int:
    """Answers that Triton has counted for a model; 0 where it does not tell."""
    from tritonclient.utils import InferenceServerException

    try:
        statistics = client.get_inference_statistics(model, client_timeout=timeout_s)
    except InferenceServerException:
        return 0
    return sum(int(stats.inference_stats.success.count) for stats in statistics.model_stats)


@cache
def _champions_key(model: str) -> str:
    """A key whose requests the champion answers during a canary too: a challenger's failure is none of a probe's."""
    route = replace(_CANARY, model=model)
    return next(key for key in map(str, count()) if pick_arm(route, key) is Arm.CHAMPION)
