"""Whether a router really answers: a request that goes all the way to the champion's engine and is not logged."""

from ops.triton.control import triton_errors

__all__ = ["PROBE_REQUEST", "probe_router"]

PROBE_REQUEST = "perennial-probe"  # the request id by which the router knows it


def probe_router(url: str, model: str, *, timeout_s: float = 5.0) -> None:
    """Ask for one answer; a server whose stubs are gone fails here although it says that it is ready.

    Raises:
        DependencyUnreachable, NotFound, PublishFailed: no answer within `timeout_s`.
    """
    import numpy as np
    from tritonclient.grpc import InferenceServerClient, InferInput

    tensor = InferInput("TEXT", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"are you there"]], dtype=object))
    options = [("grpc.use_local_subchannel_pool", 1)]
    with triton_errors(url, f"probing {model}"), InferenceServerClient(url, channel_args=options) as client:
        client.infer(model, [tensor], request_id=PROBE_REQUEST, client_timeout=timeout_s)
