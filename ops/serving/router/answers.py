"""Answers as the tensors of a response."""

from collections.abc import Iterable, Sequence

import numpy as np

from perennial.exporters.contract import ARM, PREDICTION_ID, VERSION, all_outputs, usual_outputs
from perennial.exporters.signature import Array, RouterSignature
from perennial.ops.serving.port import ServingSide
from perennial.ops.serving.router.router import Answered
from perennial.ops.serving.tensors import column

__all__ = ["Wanted", "columns"]


class Wanted:
    """The outputs to send, by those that are asked for by name."""

    def __init__(self, signature: RouterSignature) -> None:
        self._usual = frozenset(usual_outputs(signature))
        self._all = frozenset(tensor.name for tensor in all_outputs(signature))

    def of(self, requested: Iterable[str]) -> frozenset[str]:
        """Triton turns an empty list into all of them, which here means the usual ones."""
        names = frozenset(requested)
        return self._usual if not names or names == self._all else names


def columns(side: ServingSide, served: Sequence[Answered], wanted: frozenset[str]) -> dict[str, Array]:
    """One array a wanted output, rows first."""
    tensors = dict(side.tensors([row.answer for row in served], wanted))
    if VERSION in wanted:
        tensors[VERSION] = column([row.version for row in served], np.int64)
    if PREDICTION_ID in wanted:
        tensors[PREDICTION_ID] = column([row.prediction_id.encode() for row in served], np.object_)
    if ARM in wanted:
        tensors[ARM] = column([row.arm.value.encode() for row in served], np.object_)
    return tensors
