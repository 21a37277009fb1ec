"""The logits of a solved head in numpy, on the embeddings that an engine gives."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.text_classification.signature import EMBEDDING, LOGITS

__all__ = ["HeadOnEngine"]

Array = npt.NDArray[np.float32]


class HeadOnEngine:
    """An `Engine` whose embedding is another's and whose logits are the head's own arithmetic, in float64.

    `head` is that of a `TrainedModel`: weight and bias, with omega and phase where it reads random Fourier features.
    """

    def __init__(self, engine: Engine, head: Mapping[str, Array]) -> None:
        self._engine = engine
        self._head = {name: tensor.astype(np.float64) for name, tensor in head.items()}

    def infer(self, inputs: Inputs) -> Outputs:
        """See `Engine`."""
        embedding = self._engine.infer(inputs)[EMBEDDING]
        features = embedding.astype(np.float64)
        if "omega" in self._head:
            omega = self._head["omega"]
            features = np.sqrt(2.0 / omega.shape[1]) * np.cos(features @ omega + self._head["phase"])
        logits = features @ self._head["weight"].T + self._head["bias"]
        return {LOGITS: logits.astype(np.float32), EMBEDDING: embedding}
