"""Embeddings of a job's texts, or of the pictures that they name: from the cache where they are, else made."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from perennial.continual.learning.context import Context
from perennial.continual.learning.embedding import load_embedding
from perennial.continual.learning.embedding_cache import EmbeddingCache
from perennial.continual.learning.encoder import Embedder, fingerprint, hidden_size, resolve_encoder
from perennial.continual.learning.spec import JobSpec

__all__ = ["Texts"]

_MANY = 1_000  # texts, which are embedded faster at the cost of the last digits


class Texts:
    """Embeds a job's texts; the encoder is loaded only when a text is not in the cache.

    With `exact` all digits are kept, however many texts there are, in a cache of its own: a low precision gives a text
    other digits beside other texts.

    >>> Texts.__call__.__name__
    '__call__'
    """

    def __init__(
        self, spec: JobSpec, context: Context, embedder: Embedder | None = None, *, exact: bool = False
    ) -> None:
        self.folder = resolve_encoder(spec.encoder)
        self.fingerprint = fingerprint(self.folder)
        self._spec, self._context, self._embedder = spec, context, embedder
        self._many, self._exact = False, exact
        self.cache = EmbeddingCache(
            spec.cache_folder / "exact" if exact else spec.cache_folder,
            encoder=self.fingerprint,
            max_length=spec.max_length,
            dimension=hidden_size(self.folder),
        )

    @cached_property
    def _encoder(self) -> Embedder:
        spec, exact = self._spec, self._exact or not self._many
        return load_embedding(
            self.folder, images=spec.images, max_length=spec.max_length, threads=spec.threads, exact=exact
        )

    def _run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encoder(texts) if self._embedder is None else self._embedder(texts)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings (texts, d); each chunk that was embedded is on disk before the next begins.

        Raises:
            Cancelled: the job was told to stop; what was embedded so far is kept.
        """
        self._many = sum(not self.cache.holds(text) for text in set(texts)) >= _MANY
        return self.cache.embed(
            texts,
            self._run,
            progress=self._context.stage("embed"),
            between=self._context.checkpoint,
        )
