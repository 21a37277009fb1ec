"""Copies of rows outside traffic log and ledger: what of them must go when a person is erased."""

import logging
import shutil
from collections.abc import Collection
from pathlib import Path

from perennial.continual.drift.reference import forget_rows
from perennial.continual.errors import PerennialError
from perennial.exporters import golden
from perennial.exporters.bundle import read_manifest
from perennial.ops.parts import Parts

__all__ = ["forget_copies", "forget_texts"]

logger = logging.getLogger(__name__)


def forget_copies(parts: Parts, model: str, *, prediction_ids: Collection[str], texts: Collection[str]) -> None:
    """Rows out of the drift references, texts out of the known answers that earlier releases wrote.

    What cannot be read cannot be mended; a search names it.
    """
    for folder in sorted(parts.workspace.reports(model).glob("reference-*")):
        try:
            forget_rows(folder, prediction_ids)
        except PerennialError as exc:
            _not_read(folder, exc)
    for version in parts.repository.versions(parts.workspace.engine_model(model)):
        bundle = parts.workspace.bundle(model, version)
        try:
            golden.forget_texts(bundle, texts)
        except PerennialError as exc:
            _not_read(bundle, exc)


def forget_texts(parts: Parts, model: str, texts: Collection[str]) -> None:
    """Embeddings by text, and the work folders of trainings and exports, which hold rows as files."""
    from perennial.continual.learning.embedding_cache import EmbeddingCache

    if not texts or model not in parts.settings.models:
        return
    for encoder, max_length, dimension in _caches(parts, model):
        folder = parts.workspace.embeddings
        EmbeddingCache(folder, encoder=encoder, max_length=max_length, dimension=dimension).erase(texts)
    shutil.rmtree(parts.workspace.state / "runs" / model, ignore_errors=True)


def _not_read(where: Path, exc: PerennialError) -> None:
    logger.warning("erasure.copy_not_read", extra={"path": str(where), "reason": str(exc)})


def _caches(parts: Parts, model: str) -> set[tuple[str, int, int]]:
    """Encoder, longest text and embedding size of every cache that this model's versions may have filled."""
    from perennial.continual.learning.encoder import fingerprint, hidden_size, resolve_encoder

    learning = parts.workspace.model(model).learning
    folder = resolve_encoder(learning.encoder)
    found = {(fingerprint(folder), learning.max_length, hidden_size(folder))}
    for version in parts.repository.versions(parts.workspace.engine_model(model)):
        manifest = read_manifest(parts.workspace.bundle(model, version))
        found.add((manifest.encoder_fingerprint, manifest.max_length, manifest.dimension))
    return found
