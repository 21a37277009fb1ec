"""What an error means that comes within a stream, where it has a message and no status."""

import pytest
from tritonclient.utils import InferenceServerException

from perennial.client.errors import ClientError, Overloaded, Refused
from perennial.client.inference import inference_errors


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
