"""Texts as token rows, and token rows as an engine's inputs. No torch: this lives in Triton's stubs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from perennial.continual.arrays import pad
from perennial.continual.preparation import clean
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.text_classification.shared_tokenizer import SharedTokenizer
from perennial.exporters.text_classification.signature import ATTENTION_MASK, EMBEDDING, INPUT_IDS, LOGITS

__all__ = ["Floats", "FromTokens", "TextTokenizer", "TokenEngine", "Tokens", "padded", "token_inputs", "token_key"]

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class TextTokenizer:
    """A bundle's tokenizer: truncates, never pads, gives ragged rows."""

    def __init__(self, path: Path) -> None:
        self._shared = SharedTokenizer.read(path)

    @property
    def ids(self) -> int:
        """How many token ids it knows."""
        return self._shared.ids

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, which is cleaned as those were that the model learnt from."""
        cleaned = [clean(text) for text in texts]
        return [encoding.ids for encoding in self._shared.tokenizer.encode_batch_fast(cleaned)]


def token_inputs(ids: Tokens, mask: Tokens) -> Inputs:
    """Token rows (B, S) under an engine's names."""
    return {INPUT_IDS: ids, ATTENTION_MASK: mask}


def padded(rows: Sequence[Sequence[int]], *, width: int = 0) -> Inputs:
    """Ragged token rows as an engine's inputs, padded with the masked id 0 to the longest or to `width`."""
    return token_inputs(*pad(rows, width=width))


def token_key(inputs: Inputs, row: int) -> bytes:
    """A row's real tokens, by which it is found again however far it is padded.

    >>> wide, narrow = padded([[1, 5, 2], [1, 2]]), padded([[1, 2]])
    >>> token_key(wide, 1) == token_key(narrow, 0), token_key(wide, 0) == token_key(narrow, 0)
    (True, False)
    """
    ids: Tokens = inputs[INPUT_IDS][row][inputs[ATTENTION_MASK][row] != 0]
    return ids.astype(np.int64).tobytes()


class TokenEngine(Protocol):
    """A runtime that knows nothing but token rows."""

    def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        """Logits (B, C) and embeddings (B, d) of token rows (B, S)."""
        ...


class FromTokens:
    """Such a runtime as an `Engine`."""

    def __init__(self, engine: TokenEngine) -> None:
        self.engine = engine

    def infer(self, inputs: Inputs) -> Outputs:
        """See `Engine`."""
        logits, embedding = self.engine.infer(inputs[INPUT_IDS], inputs[ATTENTION_MASK])
        return {LOGITS: logits, EMBEDDING: embedding}
