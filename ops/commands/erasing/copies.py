"""Copies of rows outside traffic log and ledger: what of them must go when a person is erased."""

import logging
import shutil
from collections.abc import Collection
from itertools import product
from pathlib import Path

from perennial.continual.drift.reference import forget_rows
from perennial.continual.errors import PerennialError
from perennial.continual.learning.names import AUTO_ENCODER
from perennial.exporters import golden
from perennial.exporters.bundle import read_manifest
from perennial.ops.parts import Parts
from perennial.ops.store.pictures import forget_pictures

__all__ = ["forget_copies", "forget_embeddings", "forget_texts"]

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


def forget_texts(parts: Parts, model: str, texts: Collection[str], *, rows: int, requests: int) -> None:
    """Work folders of trainings and exports, bundles that were never published, and pictures.

    Nothing of it is touched where the person had neither a text, nor one of the labelled `rows`, nor `requests`: a
    judgement reads requests without texts as well.

    A bundle that a killed command left behind may have the rows in its sums, and would be published by the next one.
    """
    if not texts and not rows and not requests:
        return
    shutil.rmtree(parts.workspace.runs(model), ignore_errors=True)
    parts.repository.drop_staged(parts.workspace.engine_model(model))
    forget_pictures(parts.ledger, parts.workspace, model, among=texts)


def forget_embeddings(parts: Parts, models: Collection[str], texts: Collection[str]) -> None:
    """Out of every cache of the workspace, whichever encoder filled it, once no model's sums hold the texts any more.

    What sums take back must be what they were given, and the cache alone knows that. A cache of an encoder that no
    version has, such as one of a training that never ended, goes as a whole: nobody knows how long its records are, and
    nobody needs it.
    """
    from perennial.continual.learning.embedding_cache import EmbeddingCache, cache_files, texts_held

    holding = {path for path in cache_files(parts.workspace.state) if texts_held(path, texts)}
    folders = sorted({path.parent for path in holding})  # exact embeddings lie in a folder of their own
    known = _caches(parts, {*models, *parts.settings.models}) if folders else ()
    for folder, (encoder, max_length, dimension) in product(folders, known):
        EmbeddingCache(folder, encoder=encoder, max_length=max_length, dimension=dimension).erase(texts)
    for path in holding:
        if path.exists() and texts_held(path, texts):
            path.unlink(missing_ok=True)
            logger.info("erasure.cache_removed", extra={"path": str(path)})


def _not_read(where: Path, exc: PerennialError) -> None:
    logger.warning("erasure.copy_not_read", extra={"path": str(where), "reason": str(exc)})


def _caches(parts: Parts, models: Collection[str]) -> set[tuple[str, int, int]]:
    """Encoder, longest text and embedding size of every cache that these models' versions may have filled."""
    from perennial.continual.learning.encoder import (
        PACKAGED_MINILM,
        fingerprint,
        hidden_size,
        resolve_encoder,
        usable_length,
    )

    encoders = set()
    for model in models:
        if model in parts.settings.models:
            learning = parts.workspace.model(model).learning
            try:
                folder = resolve_encoder(PACKAGED_MINILM if learning.encoder == AUTO_ENCODER else learning.encoder)
                encoders.add((fingerprint(folder), usable_length(folder, learning.max_length), hidden_size(folder)))
            except PerennialError as exc:
                _not_read(Path(learning.encoder), exc)
        for version in parts.repository.versions(parts.workspace.engine_model(model)):
            bundle = parts.workspace.bundle(model, version)
            try:
                manifest = read_manifest(bundle)
            except PerennialError as exc:
                _not_read(bundle, exc)
                continue
            part = manifest.part
            if {"max_length", "dimension"} <= part.keys():  # of a task whose texts are embedded
                encoders.add((manifest.encoder_fingerprint, part["max_length"], part["dimension"]))
    return encoders
