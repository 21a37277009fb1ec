"""Rows of inputs in one batch and apart again, whatever they are: padded behind, cut to their longest, in order."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from perennial.continual.arrays import in_order
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.signature import Array, EngineSignature, Padding

__all__ = ["joined", "lengths_of", "padded_to", "row_count", "run_sorted", "some_rows", "split_rows"]


def row_count(inputs: Inputs) -> int:
    """How many rows a batch has."""
    return len(next(iter(inputs.values())))


def lengths_of(padding: Padding, inputs: Inputs) -> npt.NDArray[np.int64]:
    """Where each row's last real place stands, counted from 1; 0 for a row without any."""
    real = inputs[padding.mask] != 0
    if not real.size:
        return np.zeros(len(real), dtype=np.int64)
    return np.where(real.any(axis=1), real.shape[1] - real[:, ::-1].argmax(axis=1), 0).astype(np.int64)


def some_rows(signature: EngineSignature, inputs: Inputs, rows: npt.NDArray[np.intp], longest: int) -> Inputs:
    """Some rows of a batch, cut to `longest` where they are padded, and never below what the engine takes."""
    padding = signature.padding
    if padding is None:
        return {name: array[rows] for name, array in inputs.items()}
    longest = max(padding.least, longest)
    cut = {tensor.name for tensor in signature.inputs if tensor.dims[:1] == (padding.dim,)}
    return {name: array[rows, :longest] if name in cut else array[rows] for name, array in inputs.items()}


def padded_to(signature: EngineSignature, inputs: Inputs, width: int) -> Inputs:
    """The same rows with at least so many places, those that are new being zeros."""
    if signature.padding is None:
        return inputs
    longer = {tensor.name for tensor in signature.inputs if tensor.dims[:1] == (signature.padding.dim,)}
    return {name: _wider(array, width) if name in longer else array for name, array in inputs.items()}


def joined(requests: Sequence[Inputs]) -> Inputs:
    """Several batches as one, padded behind with zeros to the largest of each; a single one is not copied."""
    if len(requests) == 1:
        return requests[0]
    return {name: _stacked([request[name] for request in requests]) for name in requests[0]}


def split_rows(outputs: Outputs, counts: Sequence[int]) -> list[Outputs]:
    """What `joined` put together, apart again."""
    ends = np.cumsum(counts)[:-1]
    parts = {name: np.split(array, ends) for name, array in outputs.items()}
    return [{name: parts[name][place] for name in parts} for place in range(len(counts))]


def run_sorted(engine: Engine, signature: EngineSignature, inputs: Inputs, batch: int) -> Outputs:
    """Every output in the rows' own order, run in batches of similar length; no outputs for no rows.

    An output that is as wide as its longest row has zeros behind the others.
    """
    if not row_count(inputs):
        return {}
    lengths = _lengths(signature, inputs)
    order: npt.NDArray[np.intp] = np.argsort(lengths, kind="stable")
    answers = [
        engine.infer(some_rows(signature, inputs, rows, int(lengths[rows].max()))) for rows in _pieces(order, batch)
    ]
    return {name: in_order(order, [array]) for name, array in joined(answers).items()}


def _lengths(signature: EngineSignature, inputs: Inputs) -> npt.NDArray[np.int64]:
    if signature.padding is None:
        return np.zeros(row_count(inputs), dtype=np.int64)
    return lengths_of(signature.padding, inputs)


def _pieces(order: npt.NDArray[np.intp], batch: int) -> Iterator[npt.NDArray[np.intp]]:
    for start in range(0, len(order), batch):
        yield order[start : start + batch]


def _wider(array: Array, width: int) -> Array:
    missing = max(0, width - array.shape[1])
    return np.pad(array, [(0, 0), (0, missing), *[(0, 0)] * (array.ndim - 2)])


def _stacked(arrays: Sequence[Array]) -> Array:
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) == 1:
        return np.concatenate(arrays)
    widest = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    together: Array = np.zeros((sum(map(len, arrays)), *widest), dtype=arrays[0].dtype)
    start = 0
    for array in arrays:
        together[(slice(start, start + len(array)), *map(slice, array.shape[1:]))] = array
        start += len(array)
    return together
