"""What every engine is to its callers, whatever compiled it."""

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = ["Engine", "Floats", "Tokens"]

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@runtime_checkable
class Engine(Protocol):
    """A loaded engine."""

    def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        """Logits (B, C) and unit-length embeddings (B, d) of B token rows (B, S); may be called from many threads."""
        ...
