"""Rows in batches and apart again, however wide what comes out of each batch is."""

import numpy as np

from perennial.exporters.batches import run_sorted
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.generation.signature import REWRITE_ENGINE, STEPS, TOKENS


class Writer:
    """Writes as many tokens of a row as it is told, and each batch is as wide as its longest row."""

    def infer(self, inputs: Inputs) -> Outputs:
        counts = inputs[STEPS][:, 0]
        return {TOKENS: np.where(np.arange(counts.max()) < counts[:, None], counts[:, None], 0)}


def test_texts_of_several_lengths_come_together_in_their_order() -> None:
    steps = np.array([[3], [1], [5], [2], [4]], dtype=np.int64)
    tokens = run_sorted(Writer(), REWRITE_ENGINE, {STEPS: steps}, 2)[TOKENS]
    assert tokens.max(axis=1).tolist() == (tokens > 0).sum(axis=1).tolist() == [3, 1, 5, 2, 4]
