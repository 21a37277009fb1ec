"""Texts as token rows, and token rows as an engine's inputs. No torch: this lives in Triton's stubs."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from perennial.continual.arrays import pad
from perennial.continual.preparation import clean
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.text_classification.signature import ATTENTION_MASK, EMBEDDING, INPUT_IDS, LOGITS

__all__ = ["Floats", "FromTokens", "TextTokenizer", "TokenEngine", "Tokens", "padded", "token_inputs", "token_key"]

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
_MOST_KNOWN = 4  # of a process: as many encoders as its versions have, with some to spare


class _Shared:
    """A tokenizer that nobody changes, and how many ids it knows, which takes long to ask."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def ids(self) -> int:
        ids: dict[str, int] = self.tokenizer.get_vocab()
        return 1 + max(ids.values())


_tokenizers: dict[bytes, _Shared] = {}  # by what their files hold


class TextTokenizer:
    """A bundle's tokenizer: truncates, never pads, gives ragged rows."""

    def __init__(self, path: Path) -> None:
        self._shared = _read(path)

    @property
    def ids(self) -> int:
        """How many token ids it knows."""
        return self._shared.ids

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, which is cleaned as those were that the model learnt from."""
        cleaned = [clean(text) for text in texts]
        return [encoding.ids for encoding in self._shared.tokenizer.encode_batch_fast(cleaned)]


def _read(path: Path) -> _Shared:
    """The tokenizer of a file; versions of one encoder share it, as nobody changes it afterwards."""
    from tokenizers import Tokenizer

    content = path.read_bytes()
    name = hashlib.blake2b(content).digest()
    if (known := _tokenizers.get(name)) is not None:
        return known
    tokenizer = Tokenizer.from_buffer(content)
    tokenizer.no_padding()
    if len(_tokenizers) >= _MOST_KNOWN:
        _tokenizers.clear()
    _tokenizers[name] = shared = _Shared(tokenizer)
    return shared


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
