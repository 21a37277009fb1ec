"""An inference request as a client may write it: read in full, and written anew for Triton.

Triton 2.51 follows nested JSON until its stack ends, and reserves whatever memory a shape asks for; both end its
process. Written anew, a request means to Triton what it meant to the check: a name that comes twice comes once.
"""

from dataclasses import dataclass
from typing import Annotated

import msgspec

from perennial.exporters.signature import BYTES, INT32
from perennial.ops.serving.door.requests import Refusal

__all__ = ["Inference", "Question", "checked_request"]

_MOST_VALUES = 1_000_000  # of one input; the model's own limit of rows is far lower
_KINDS = frozenset({BYTES, INT32})
_Word = Annotated[str, msgspec.Meta(max_length=1_024)]
_Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Size = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class InputOptions(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    binary_data_size: _Size | None = None


class Input(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    name: _Word
    shape: Annotated[list[_Size], msgspec.Meta(min_length=1, max_length=8)]
    datatype: _Word
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: InputOptions | None = None


class OutputOptions(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    binary_data: bool = False


class Output(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    name: _Word
    parameters: OutputOptions | None = None


class Inference(msgspec.Struct, omit_defaults=True):
    inputs: Annotated[list[Input], msgspec.Meta(min_length=1, max_length=16)]
    outputs: Annotated[list[Output], msgspec.Meta(max_length=16)] = []
    id: _Word = ""
    parameters: dict[_Word, bool | _Whole | float | _Word] = {}


_DECODER, _ENCODER = msgspec.json.Decoder(Inference), msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Question:
    """An inference request that was read in full; `binary` are the values behind its JSON, where it has such."""

    inference: Inference
    binary: bytes | None = None

    def written(self) -> tuple[bytes, bytes | None]:
        """What Triton is to read: the body, and the length of its JSON where binary values follow."""
        head = _ENCODER.encode(self.inference)
        return (head, None) if self.binary is None else (head + self.binary, b"%d" % len(head))


def checked_request(body: bytes, json_length: bytes | None) -> Question | Refusal:
    """The request, or why it is none.

    Args:
        body: as it came.
        json_length: the header Inference-Header-Content-Length, digits; None where there is none.
    """
    length = len(body) if json_length is None else int(json_length)
    if length > len(body):
        return Refusal(400, f"Inference-Header-Content-Length is {length} and the body has {len(body)} bytes")
    try:
        request = _DECODER.decode(body[:length])
    except RecursionError:
        return Refusal(400, "the JSON is nested too deeply; an inference request needs fewer than ten levels")
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        return Refusal(400, f"the body is not an inference request: {exc}")
    if reason := _wrong_inputs(request.inputs, len(body) - length):
        return Refusal(400, reason)
    return Question(request, None if json_length is None else body[length:])


def _wrong_inputs(inputs: list[Input], following: int) -> str:
    binary = 0
    for tensor in inputs:
        if tensor.datatype not in _KINDS:
            return f"input {tensor.name!r} has the datatype {tensor.datatype!r}; texts are BYTES, numbers INT32"
        values = 1
        for extent in tensor.shape:
            values *= extent
        if not 0 < values <= _MOST_VALUES:
            return f"input {tensor.name!r} has a shape of {values} values (allowed are 1 to {_MOST_VALUES})"
        size = None if tensor.parameters is None else tensor.parameters.binary_data_size
        if (size is None) == (tensor.data is msgspec.UNSET):
            return f"input {tensor.name!r} must have either data or binary_data_size"
        if isinstance(tensor.data, msgspec.Raw) and memoryview(tensor.data)[0] != ord("["):
            return f"the data of input {tensor.name!r} must be a list"
        binary += size or 0
    if binary != following:
        return f"the inputs name {binary} bytes of binary values and {following} follow the JSON"
    return ""
