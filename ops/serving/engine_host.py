"""What the engine backend does with a batch: one run for all its requests, whatever their lengths."""

import logging
from collections.abc import Sequence
from pathlib import Path

from perennial.continual.jobs.memory import trim_heaps
from perennial.exporters.batches import joined, row_count, split_rows
from perennial.exporters.bundle import read_manifest
from perennial.exporters.engine import Engine, Inputs, Outputs, Resting
from perennial.exporters.golden import GOLDEN, Golden
from perennial.exporters.runtime import load_engine
from perennial.exporters.signature import EngineSignature

__all__ = ["EngineHost"]

logger = logging.getLogger(__name__)


class EngineHost:
    """One loaded version inside Triton's process for it."""

    def __init__(self, engine: Engine, signature: EngineSignature) -> None:
        self._engine, self.signature = engine, signature

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
        return cls(engine, read_manifest(bundle).signature)

    def rest(self) -> None:
        """Hold little while nothing is asked; the next questions take longer. May be called while one is answered."""
        if isinstance(self._engine, Resting):
            self._engine.rest()
        trim_heaps()

    def infer(self, requests: Sequence[Inputs]) -> list[Outputs]:
        """Each request's own rows; all are run as one batch."""
        outputs = self._engine.infer(joined(requests))
        return split_rows(outputs, [row_count(request) for request in requests])
