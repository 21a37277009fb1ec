"""A new head on an engine that was proved before: what is left to prove, and against what, without torch."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from perennial.exporters.batches import lengths_of, row_count, some_rows
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.port import HeldOut
from perennial.exporters.signature import EngineSignature

__all__ = ["Remembered", "moved_outputs", "proving_rows", "stand_for"]

_ROWS = 32
_BATCH = 16
_FEW, _STANDING = 64, 0.75  # so few rows must all be known; of more rows this share


class Remembered:
    """An engine that gives the answer to a batch once more without working it out again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[tuple[tuple[str, tuple[int, ...], bytes], ...], Outputs] = {}

    def infer(self, inputs: Inputs) -> Outputs:
        """See `Engine`."""
        key = tuple((name, array.shape, array.tobytes()) for name, array in sorted(inputs.items()))
        if key not in self._known:
            self._known[key] = self._engine.infer(inputs)
        return self._known[key]


def moved_outputs(
    before: Engine, after: Engine, signature: EngineSignature, inputs: Inputs, names: Sequence[str]
) -> float:
    """How far outputs that must not have changed are apart between two engines, over rows from shortest to longest."""
    count = row_count(inputs)
    lengths = np.zeros(count, np.int64) if signature.padding is None else lengths_of(signature.padding, inputs)
    order: npt.NDArray[np.intp] = np.argsort(lengths, kind="stable")
    chosen = order[np.unique(np.linspace(0, count - 1, _ROWS).round().astype(int))]
    apart = 0.0
    for start in range(0, len(chosen), _BATCH):
        rows = chosen[start : start + _BATCH]
        batch = some_rows(signature, inputs, rows, int(lengths[rows].max()))
        one, other = before.infer(batch), after.infer(batch)
        for name in names:
            if one[name].shape != other[name].shape or not np.isfinite(other[name]).all():
                return float("inf")
            apart = max(apart, float(np.abs(one[name] - other[name]).max(initial=0.0)))
    return apart


def stand_for(rows: HeldOut, places: Sequence[int]) -> bool:
    """Whether the rows at these places may prove a head in the place of all: enough of them, and of every class.

    At least three of four rows are among them, so at least half of any half, such as the newest.

    >>> rows = HeldOut(inputs="abcd", targets=["yes", "yes", "no", "yes"])
    >>> stand_for(rows, [0, 1, 2, 3]), stand_for(rows, [0, 1, 3])
    (True, False)
    """
    count = len(rows.inputs)
    if len(places) < max(min(_FEW, count), _STANDING * count):
        return False
    return rows.targets is None or {rows.targets[place] for place in places} >= set(rows.targets)


def proving_rows(rows: HeldOut, most: int) -> HeldOut:
    """At most so many rows, evenly over the whole, and besides the first of every class that none of them has.

    >>> proving_rows(HeldOut(inputs="abcdef", targets=["yes", "yes", "no", "yes", "yes", "yes"]), 2).inputs
    ['a', 'c', 'd']
    """
    count = len(rows.inputs)
    chosen = set(HeldOut(inputs=range(count)).spread(most).inputs)
    first = {} if rows.targets is None else {rows.targets[place]: place for place in reversed(range(count))}
    there = set() if rows.targets is None else {rows.targets[place] for place in chosen}
    return rows.at(sorted(chosen | {place for target, place in first.items() if target not in there}))
