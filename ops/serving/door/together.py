"""Several questions as one, and one answer as several."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import msgspec

from perennial.ops.serving.door.answers import Reply
from perennial.ops.serving.door.inference import Inference, Input

__all__ = ["CALLERS", "Pieces", "joined", "split"]

CALLERS = "callers"  # the parameter by which the router knows that a question is several clients'


class Pieces(NamedTuple):
    """One question's part of an answer."""

    rows: int
    id: str


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class _Answer(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[_Output]
    id: str = ""


_DECODER, _ENCODER = msgspec.json.Decoder(_Answer), msgspec.json.Encoder()


def joined(questions: Sequence[Inference]) -> bytes:
    """One question of all their rows, in order; they have the same inputs and want the same outputs."""
    inputs = []
    for first in questions[0].inputs:
        columns = [next(tensor for tensor in each.inputs if tensor.name == first.name) for each in questions]
        values = b",".join(_values(tensor) for tensor in columns)
        rows = sum(tensor.shape[0] for tensor in columns)
        inputs.append(
            Input(name=first.name, shape=[rows, 1], datatype=first.datatype, data=msgspec.Raw(b"[" + values + b"]"))
        )
    together = Inference(inputs=inputs, outputs=questions[0].outputs, parameters={CALLERS: len(questions)})
    return _ENCODER.encode(together)


def _values(tensor: Input) -> bytes:
    return bytes(tensor.data).strip()[1:-1] if isinstance(tensor.data, msgspec.Raw) else b""


def split(reply: Reply, pieces: Sequence[Pieces]) -> list[Reply] | None:
    """Each question's own answer; None where the answer is not one that has a part for each row."""
    if reply.head_length:
        return None
    try:
        answer = _DECODER.decode(b"".join(reply.body))
    except msgspec.DecodeError:
        return None
    rows = sum(piece.rows for piece in pieces)
    widths = [prod(output.shape[1:]) for output in answer.outputs]
    for output, width in zip(answer.outputs, widths, strict=True):
        if not output.shape or output.shape[0] != rows or len(output.data) != rows * width:
            return None
    replies, first = [], 0
    for piece in pieces:
        end = first + piece.rows
        outputs = [
            _Output(
                name=output.name,
                datatype=output.datatype,
                shape=[piece.rows, *output.shape[1:]],
                data=output.data[first * width : end * width],
            )
            for output, width in zip(answer.outputs, widths, strict=True)
        ]
        own = Reply()
        own.status = reply.status
        own.body.append(
            _ENCODER.encode(
                _Answer(model_name=answer.model_name, model_version=answer.model_version, outputs=outputs, id=piece.id)
            )
        )
        replies.append(own)
        first = end
    return replies
