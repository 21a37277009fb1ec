"""The head of a tuned network: linear on its embedding, and beside it, where asked for, what the words say."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import DataError
from perennial.continual.learning.lexical import OF_WORDS, WEIGHT, LexicalFeatures, WordScores
from perennial.continual.learning.trained import HEAD_FILE

__all__ = ["FUSED", "LINEAR", "NETWORK_HEADS", "NetworkHead"]

LINEAR, FUSED = "linear", "fused"  # what the card calls it
NETWORK_HEADS = frozenset({LINEAR, FUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkHead:
    """logits = embedding weight^T + bias, and of a fused head what words and letters add.

    >>> head = NetworkHead(labels=("a", "b"), weight=np.eye(2, dtype=np.float32), bias=np.zeros(2, np.float32))
    >>> head.logits(np.array([[1.0, 0.0]]), ["any"]).tolist()
    [[1.0, 0.0]]
    """

    labels: tuple[str, ...]
    weight: NDArray[np.float32]  # (C, d)
    bias: NDArray[np.float32]  # (C,)
    lexical: NDArray[np.float32] | None = None  # (C, L)
    words: LexicalFeatures | None = None

    @property
    def name(self) -> str:
        """What the card calls the head."""
        return LINEAR if self.lexical is None else FUSED

    def logits(self, X: NDArray[np.floating[Any]], texts: Sequence[str]) -> NDArray[np.float64]:
        """Scores (rows, C) of embeddings X (rows, d) and their texts."""
        scores: NDArray[np.float64] = X.astype(np.float64) @ self.weight.T + self.bias
        if self.lexical is not None and self.words is not None:
            scores += WordScores(self.lexical, self.words)(texts)
        return scores

    def cooled(self, temperature: float) -> Self:
        """The same with every logit divided by a temperature."""
        by = np.float32(temperature)
        lexical = None if self.lexical is None else self.lexical / by
        return replace(self, weight=self.weight / by, bias=self.bias / by, lexical=lexical)

    def write(self, folder: Path) -> None:
        """Write `head.safetensors`, whole."""
        from safetensors.numpy import save_file

        tensors: dict[str, NDArray[Any]] = {"weight": self.weight, "bias": self.bias}
        if self.lexical is not None and self.words is not None:
            tensors |= WordScores.tensors(self.lexical, self.words)
        with written_whole(folder / HEAD_FILE) as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary)

    @classmethod
    def read(cls, folder: Path, labels: tuple[str, ...]) -> Self:
        """The head that `write` left, for the labels of its card.

        Raises:
            DataError: the file cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors: dict[str, NDArray[Any]] = load_file(folder / HEAD_FILE)
            weight, bias, lexical = tensors["weight"], tensors["bias"], tensors.get(WEIGHT)
        except (OSError, SafetensorError, KeyError) as error:
            raise DataError(f"{folder / HEAD_FILE} cannot be read ({error}); run the job again") from error
        words = (
            None if lexical is None else LexicalFeatures.of_tensor(lexical.shape[1], tensors.get(OF_WORDS, np.zeros(1)))
        )
        return cls(labels=labels, weight=weight, bias=bias, lexical=lexical, words=words)
