"""What an error means that comes within a stream, where it has a message and no status."""

import time
from typing import Any

import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from perennial.client.errors import ClientError, Overloaded, Refused, Unreachable
from perennial.client.inference import inference_errors
from perennial.client.questions import rewrite_of
from perennial.client.streams import stream_rewrite
from perennial.ops.serving.processes import free_port


@pytest.mark.parametrize(
    ("message", "kind", "hint_s"),
    [("8 rewrites are being written; retry after 1 s", Overloaded, 1.0), ("TEXT of row 0 has 0 bytes", Refused, None)],
)
def test_a_stream_that_is_full_says_when_to_come_back(
    message: str, kind: type[ClientError], hint_s: float | None
) -> None:
    with pytest.raises(kind) as raised, inference_errors("here:1", "tell"):
        raise InferenceServerException(message)
    assert getattr(raised.value, "retry_after_s", None) == hint_s


def test_a_stream_that_ends_before_it_is_asked_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens the stream may be over sooner than the question is put."""
    put = InferenceServerClient.async_stream_infer

    def late(self: Any, *arguments: Any, **named: Any) -> None:
        while self._stream._active:
            time.sleep(0.01)
        put(self, *arguments, **named)

    monkeypatch.setattr(InferenceServerClient, "async_stream_infer", late)
    with pytest.raises(Unreachable, match="nobody answers"):
        next(stream_rewrite(f"127.0.0.1:{free_port()}", "tell", rewrite_of("It is ready."), timeout_s=10))
