"""Embeddings of rows that prove versions: worked out once for an encoder, however many heads are put on it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perennial.continual.learning.embedding_cache import EmbeddingCache
from perennial.exporters.batches import row_count, run_sorted
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.parity import PARITY_BATCH
from perennial.exporters.port import Answerer
from perennial.exporters.text_classification.signature import EMBEDDING
from perennial.exporters.text_classification.tokens import token_key

__all__ = ["KnownEmbeddings"]

Floats = npt.NDArray[np.float32]


class KnownEmbeddings:
    """Those of one encoder, as one way of running it gives them, where an erasure finds them as it finds all others.

    Args:
        folder: of this way alone, beside the embeddings of trainings, of which some were made in a low precision.
        encoder: its fingerprint, and what else tells the way from others.
        max_length: tokens after which a text is cut.
        dimension: of an embedding.
    """

    def __init__(self, folder: Path, *, encoder: str, max_length: int, dimension: int) -> None:
        self._cache = EmbeddingCache(folder, encoder=encoder, max_length=max_length, dimension=dimension)

    def known(self, texts: Sequence[str]) -> list[int]:
        """The places of the texts whose embeddings are known."""
        return [place for place, text in enumerate(texts) if self._cache.holds(text)]

    def learn(self, texts: Sequence[str], by: Answerer) -> None:
        """Take what an engine gives for those of the texts that are not known."""
        if unknown := [text for text in dict.fromkeys(texts) if not self._cache.holds(text)]:
            outputs = run_sorted(by.engine, by.signature, by.encode(unknown), PARITY_BATCH)
            self._cache.remember(unknown, outputs[EMBEDDING])

    def instead_of(self, engine: Engine, by: Answerer, texts: Sequence[str]) -> Engine:
        """An encoder that gives the known embeddings for these texts' rows, and asks the engine about any other row."""
        places = self.known(texts)
        rows = by.encode([texts[place] for place in places])
        known = self._cache.embed([texts[place] for place in places], _nothing)
        return _Known(engine, dict(zip(_keys(rows), known, strict=True)))


class _Known:
    def __init__(self, engine: Engine, known: Mapping[bytes, Floats]) -> None:
        self._engine, self._known = engine, known

    def infer(self, inputs: Inputs) -> Outputs:
        found = [self._known.get(key) for key in _keys(inputs)]
        strange = [place for place, embedding in enumerate(found) if embedding is None]
        own = self._engine.infer({name: array[strange] for name, array in inputs.items()})[EMBEDDING] if strange else ()
        others = iter(own)
        return {EMBEDDING: np.stack([next(others) if embedding is None else embedding for embedding in found])}


def _keys(rows: Inputs) -> list[bytes]:
    return [token_key(rows, row) for row in range(row_count(rows))]


def _nothing(texts: Sequence[str]) -> Floats:
    raise AssertionError(f"{len(texts)} embeddings that were known are gone")
