"""Which replay buffer a rehearsing network keeps, chosen on the training hold-out."""

import numpy as np

from benchmarks.learning_data import Frozen
from benchmarks.learning_network import Rehearsal, final_accuracy, held_out_as_test, rehearsed_mlp
from continual.replay import BufferKind

__all__ = ["tune_kind"]


def tune_kind(data: Frozen, per_update: int, rows: int, how: Rehearsal) -> tuple[BufferKind, dict[str, float]]:
    """Choose the buffer by final accuracy on 15% of the training rows, in a class order of its own; and what was tried.

    In percent; the test set isn't used.
    """
    order = np.random.default_rng(5).permutation(len(data.labels)).tolist()
    part = held_out_as_test(data, np.random.default_rng(5).random(len(data.y_train)) < 0.15)
    tried = {}
    for kind in (BufferKind.CLASS_BALANCED, BufferKind.HERDING):
        *_, last = rehearsed_mlp(part, order, per_update, kind=kind, rows=rows, seed=5, how=how)
        tried[kind] = final_accuracy(last, part)
    return max(tried, key=lambda kind: tried[kind]), {kind.value: found for kind, found in tried.items()}
