"""Answers as the tensors of a response."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from perennial.exporters.contract import (
    ARM,
    CONFIDENCE,
    LABEL,
    LABELS,
    PREDICTION_ID,
    ROUTER_OUTPUTS,
    SCORES,
    USUAL_OUTPUTS,
    VERSION,
)
from perennial.ops.serving.router.router import Answered

__all__ = ["columns", "wanted_outputs"]

_ALL, _USUAL = frozenset(ROUTER_OUTPUTS), frozenset(USUAL_OUTPUTS)


def wanted_outputs(requested: Iterable[str]) -> frozenset[str]:
    """The outputs to send. Triton turns an empty list into all of them, which here means the usual four."""
    names = frozenset(requested)
    return _USUAL if not names or names == _ALL else names


def columns(served: Sequence[Answered], wanted: frozenset[str]) -> dict[str, npt.NDArray[Any]]:
    """One array a wanted output, (rows, 1) or (rows, C).

    Rows of versions with different classes share one width; the missing places hold 0 and an empty label.
    """
    makers: dict[str, Callable[[], npt.NDArray[Any]]] = {
        LABEL: lambda: _column([row.label.encode() for row in served], np.object_),
        CONFIDENCE: lambda: _column([row.confidence for row in served], np.float32),
        VERSION: lambda: _column([row.version for row in served], np.int64),
        PREDICTION_ID: lambda: _column([row.prediction_id.encode() for row in served], np.object_),
        ARM: lambda: _column([row.arm.value.encode() for row in served], np.object_),
        SCORES: lambda: _scores(served),
        LABELS: lambda: _labels(served),
    }
    return {name: make() for name, make in makers.items() if name in wanted}


def _column(values: list[Any], kind: Any) -> npt.NDArray[Any]:
    return np.array(values, dtype=kind).reshape(-1, 1)


def _scores(served: Sequence[Answered]) -> npt.NDArray[Any]:
    scores = np.zeros((len(served), max(len(row.scores) for row in served)), dtype=np.float32)
    for index, row in enumerate(served):
        scores[index, : len(row.scores)] = row.scores
    return scores


def _labels(served: Sequence[Answered]) -> npt.NDArray[Any]:
    labels = np.full((len(served), max(len(row.labels) for row in served)), b"", dtype=np.object_)
    for index, row in enumerate(served):
        labels[index, : len(row.labels)] = [label.encode() for label in row.labels]
    return labels
