"""Whether a router really answers: a request that goes all the way to the champion's engine and is not logged."""

from dataclasses import replace
from functools import cache
from itertools import count

from continual.errors import PublishFailed
from continual.records import Arm, Route
from ops.triton.control import triton_errors
from ops.triton.route import pick_arm

__all__ = ["PROBE_REQUEST", "ChampionSilent", "probe_router"]

PROBE_REQUEST = "perennial-probe"  # the request id by which the router knows it
_CANARY = Route(model="any", epoch=1, champion=1, challenger=2, share=0.999, resident=(1, 2))


class ChampionSilent(PublishFailed):
    """The champion does not answer, and the version before it does in its place: nobody goes without an answer."""


def probe_router(url: str, model: str, *, timeout_s: float = 5.0) -> None:
    """Ask the champion for one answer; a server whose stubs are gone fails here although it says that it is ready.

    Raises:
        ChampionSilent: another version answered in its place.
        DependencyUnreachable, NotFound, PublishFailed: no answer within `timeout_s`.
    """
    import numpy as np
    from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

    inputs = []
    for name, value in (("TEXT", b"are you there"), ("KEY", _champions_key(model).encode())):
        inputs.append(InferInput(name, [1, 1], "BYTES"))
        inputs[-1].set_data_from_numpy(np.array([[value]], dtype=object))
    outputs = [InferRequestedOutput(name) for name in ("LABEL", "ARM")]
    options = [("grpc.use_local_subchannel_pool", 1)]
    with triton_errors(url, f"probing {model}"), InferenceServerClient(url, channel_args=options) as client:
        result = client.infer(model, inputs, outputs=outputs, request_id=PROBE_REQUEST, client_timeout=timeout_s)
    if result.as_numpy("ARM")[0, 0].decode() == Arm.FALLBACK:
        raise ChampionSilent(
            f"the champion of {model} at {url} does not answer, the version before it does in its place; "
            f"see Triton's log, and make another version champion with `perennial model rollback`"
        )


@cache
def _champions_key(model: str) -> str:
    """A key whose requests the champion answers during a canary too: a challenger's failure is none of a probe's."""
    route = replace(_CANARY, model=model)
    return next(key for key in map(str, count()) if pick_arm(route, key) is Arm.CHAMPION)
