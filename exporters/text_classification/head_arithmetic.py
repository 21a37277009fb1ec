"""The logits of a solved head in numpy, on the embeddings that an engine gives."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from perennial.continual.learning.mapped_rows import mapped_rows, name_of
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.text_classification.signature import EMBEDDING, LOGITS

__all__ = ["HeadOnEngine"]

Array = npt.NDArray[np.float32]


class HeadOnEngine:
    """An `Engine` whose embedding is another's and whose logits are the head's own arithmetic, in float64.

    `head` is that of a `TrainedModel`: weight and bias, with omega and phase where it reads random Fourier features.
    """

    def __init__(self, engine: Engine, head: Mapping[str, Array]) -> None:
        self._engine, self._given = engine, head

    @cached_property
    def _head(self) -> Mapping[str, npt.NDArray[np.float64]]:
        return {name: tensor.astype(np.float64) for name, tensor in self._given.items()}

    def infer(self, inputs: Inputs) -> Outputs:
        """See `Engine`."""
        embedding = self._engine.infer(inputs)[EMBEDDING]
        known, weight = mapped_rows(), self._head["weight"].T
        if known is None or "omega" not in self._head:
            logits = self._features(embedding) @ weight
        else:
            logits = known.of_embeddings(embedding, self._way, self._features, weight)
        return {LOGITS: (logits + self._head["bias"]).astype(np.float32), EMBEDDING: embedding}

    @cached_property
    def _way(self) -> bytes:
        return name_of(self._head["omega"], self._head["phase"])

    def _features(self, embedding: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        features = embedding.astype(np.float64)
        if "omega" not in self._head:
            return features
        omega = self._head["omega"]
        return np.asarray(np.sqrt(2.0 / omega.shape[1]) * np.cos(features @ omega + self._head["phase"]))
