"""What a trained folder answers, without a server: for offline comparisons."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.learning.card import read_card
from perennial.continual.learning.embedding import load_embedding
from perennial.continual.learning.embedding_cache import EmbeddingCache
from perennial.continual.learning.encoder import Embedder, fingerprint, hidden_size, resolve_encoder
from perennial.continual.learning.network_head import NETWORK_HEADS, NetworkHead
from perennial.continual.learning.trained import KERNEL_HEADS, read_head, read_proved_head

__all__ = ["answer", "embedded"]


def answer(
    folder: Path,
    texts: Sequence[str],
    *,
    cache: Path,
    threads: int = 0,
    proved: bool = False,
    images: Path | None = None,
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The labels of a trained folder in logit order, and its calibrated logits for the texts, (texts, C).

    With `proved` it answers as it did before it learnt the rows that prove it: for answers to those. `images` is the
    folder of the pictures that the texts name, where its encoder reads images.

    Raises:
        DataError: the folder is no finished training.

    >>> answer(Path("/nowhere"), [], cache=Path("/nowhere"))
    Traceback (most recent call last):
    ...
    perennial.continual.errors.DataError: /nowhere has no model.json: its training did not finish; run the job again
    """
    card = read_card(folder)
    texts = card.as_read(texts)
    X = embedded(folder, texts, cache=cache, threads=threads, images=images)
    if card.head in KERNEL_HEADS:
        read = read_proved_head if proved else read_head
        return card.labels, read(folder).logits(X, texts)
    if card.head not in NETWORK_HEADS:
        known = sorted(KERNEL_HEADS | NETWORK_HEADS)
        raise DataError(f"{folder} has a {card.head!r} head; this version answers with one of {known}")
    return card.labels, NetworkHead.read(folder, card.labels).logits(X, texts)


def embedded(
    folder: Path, texts: Sequence[str], *, cache: Path, threads: int = 0, images: Path | None = None
) -> NDArray[np.float32]:
    """The embeddings (texts, d) that a trained folder's head reads, out of the cache where they are there."""
    card = read_card(folder)
    encoder = resolve_encoder(card.encoder_source(folder))
    store = EmbeddingCache(
        cache, encoder=fingerprint(encoder), max_length=card.max_length, dimension=hidden_size(encoder)
    )
    loaded: list[Embedder] = []

    def embed(missing: Sequence[str]) -> NDArray[np.float32]:
        if not loaded:
            embedder = load_embedding(encoder, images=images, max_length=card.max_length, threads=threads, exact=True)
            loaded.append(embedder)
        return loaded[0](missing)

    return store.embed(card.as_read(texts), embed)
