"""What the engine backend does with a batch: one run for all its requests, whatever their lengths."""

import gc
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from perennial.continual.jobs.memory import trim_heaps
from perennial.continual.jobs.priority import giving_way
from perennial.exporters.batches import joined, row_count, split_rows
from perennial.exporters.bundle import read_manifest
from perennial.exporters.engine import Engine, Inputs, Outputs, Resting, Settling
from perennial.exporters.golden import GOLDEN, Golden
from perennial.exporters.runtime import load_engine
from perennial.exporters.signature import EngineSignature

__all__ = ["EngineHost"]

logger = logging.getLogger(__name__)
_LEAST = 19  # the lowest priority
_GIVES_WAY_S = 0.25  # while an engine is loaded again: whoever promotes its version waits for one second at most


class EngineHost:
    """One loaded version inside Triton's process for it.

    Args:
        engine: as it was loaded.
        signature: its own.
        again: loads it once more.
        waits: whether nobody is answered by this version at present; its engine then goes when it rests.
    """

    def __init__(
        self,
        engine: Engine,
        signature: EngineSignature,
        *,
        again: Callable[[], Engine] | None = None,
        waits: Callable[[], bool] = lambda: False,
    ) -> None:
        self._engine: Engine | None = engine
        self.signature, self.waits = signature, waits
        self._again, self._loading = again, threading.Lock()

    @classmethod
    def load(
        cls,
        model_folder: Path,
        version: int,
        *,
        threads: int = 0,
        cache_dir: Path | None = None,
        waits: Callable[[], bool] = lambda: False,
    ) -> "EngineHost":
        """Verify the bundle, load its engine and have it repeat its known answers.

        Raises:
            BundleRejected: the files, the runtime or the answers are not as promised; Triton then reports the reason.
        """
        bundle = model_folder / str(version)
        opened = partial(_opened, bundle, threads, cache_dir)
        again = partial(opened, reread=False) if (bundle / GOLDEN).is_file() else None  # or nobody could wake it first
        return cls(opened(), read_manifest(bundle).signature, again=again, waits=waits)

    def rest(self) -> None:
        """Hold little while nothing is asked; the next questions take longer. May be called while one is answered.

        The engine of a version that only waits goes altogether, and is loaded again by the next question.
        """
        with self._loading:
            engine: object = self._engine
            if isinstance(engine, Resting) and self._again is not None and self.waits():
                engine = self._engine = None
        if isinstance(engine, Resting):
            engine.rest()
        del engine
        gc.collect()  # a compiled model and its requests may hold each other
        trim_heaps()

    def settle(self) -> None:
        """Let go of what large batches needed, where lately none was as large. May be called while one is answered."""
        with self._loading:
            engine: object = self._engine
        if isinstance(engine, Settling) and engine.settle():
            trim_heaps()

    def infer(self, requests: Sequence[Inputs]) -> list[Outputs]:
        """Each request's own rows; all are run as one batch."""
        outputs = self._loaded().infer(joined(requests))
        return split_rows(outputs, [row_count(request) for request in requests])

    def _loaded(self) -> Engine:
        with self._loading:
            if self._engine is None:
                if self._again is None:  # it never went
                    raise RuntimeError("this version's engine is gone, and nothing says how to load it again")
                with giving_way(_LEAST, within_s=_GIVES_WAY_S):  # the version that answers has the processors
                    self._engine = self._again()
                logger.info("engine.loaded_again")
            return self._engine


def _opened(bundle: Path, threads: int, cache_dir: Path | None, *, reread: bool = True) -> Engine:
    engine = load_engine(bundle, threads=threads, cache_dir=cache_dir, reread=reread)
    if (bundle / GOLDEN).is_file():
        Golden.read(bundle).check(engine)
    return engine
