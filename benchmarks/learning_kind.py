"""How a network rehearses with a given number of rows, and its share in a blend: chosen on the training hold-out."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.learning_arms import Tuned
from benchmarks.learning_data import Frozen
from benchmarks.learning_network import Rehearsal, final_accuracy, rehearsed_mlp, tune_rehearsal, tune_share
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.replay import BufferKind

__all__ = ["Chosen", "choose"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What the hold-out chose for one budget; `tried` names every candidate with its accuracy there in percent."""

    kind: BufferKind = BufferKind.CLASS_BALANCED
    how: Rehearsal = field(default_factory=Rehearsal)
    share: float = 0.0
    tried: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, document: dict[str, Any]) -> "Chosen":
        """Return what `asdict` made of it, after JSON."""
        return cls(
            kind=BufferKind(document["kind"]),
            how=Rehearsal(**document["how"]),
            share=document["share"],
            tried=document["tried"],
        )


def choose(
    data: Frozen, per_update: int, rows: int, features: FourierFeatures, tuned: Tuned, *, stored_rows_only: bool
) -> Chosen:
    """Choose loss, buffer and share in this order, in a class order of its own; the test set isn't used."""
    how, tried, updates, part = tune_rehearsal(data, per_update, rows, stored_rows_only=stored_rows_only)
    kind = BufferKind.CLASS_BALANCED
    if stored_rows_only:  # with sums beside them it matters little which rows are stored
        order = np.random.default_rng(5).permutation(len(data.labels)).tolist()
        herded = list(rehearsed_mlp(part, order, per_update, kind=BufferKind.HERDING, rows=rows, seed=5, how=how))
        tried["herding"] = final_accuracy(herded[-1], part)
        if tried["herding"] > final_accuracy(updates[-1], part):
            kind, updates = BufferKind.HERDING, herded
    share, shares = tune_share(part, per_update, features, tuned, updates[-1])
    return Chosen(kind=kind, how=how, share=share, tried=tried | shares)
