"""What the engine backend does with a batch: one run for all its requests, whatever their lengths."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from perennial.continual.arrays import pad_together
from perennial.exporters.engine import Engine, Floats, Tokens
from perennial.exporters.golden import GOLDEN, Golden
from perennial.exporters.runtime import load_engine

__all__ = ["EngineHost"]

logger = logging.getLogger(__name__)


class EngineHost:
    """One loaded version inside Triton's process for it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def load(cls, model_folder: Path, version: int, *, threads: int = 0, cache_dir: Path | None = None) -> "EngineHost":
        """Verify the bundle, load its engine and have it repeat its known answers.

        Raises:
            BundleRejected: the files, the runtime or the answers are not as promised; Triton then reports the reason.
        """
        bundle = model_folder / str(version)
        engine = load_engine(bundle, threads=threads, cache_dir=cache_dir)
        if (bundle / GOLDEN).is_file():
            Golden.read(bundle).check(engine)
        return cls(engine)

    def infer(self, requests: Sequence[tuple[Tokens, Tokens]]) -> list[tuple[Floats, Floats]]:
        """Logits and embeddings of each request's own rows; all are run as one batch."""
        ids, mask = pad_together(requests)
        logits, embedding = self._engine.infer(ids, mask)
        ends = np.cumsum([len(rows) for rows, _ in requests])[:-1]
        return list(zip(np.split(logits, ends), np.split(embedding, ends), strict=True))
