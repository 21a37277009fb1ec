"""A package that answers."""

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perennial.continual.errors import BundleRejected, DataError
from perennial.exporters.aotinductor.opening import open_package
from perennial.exporters.aotinductor.package import WEIGHTS, PackageRecord, processor_of, runs_on
from perennial.exporters.aotinductor.replay import Replayed
from perennial.exporters.aotinductor.weights import describe
from perennial.exporters.bundle import read_manifest

__all__ = ["AotInductorEngine", "load", "load_package"]

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def load(bundle: Path, *, threads: int = 0) -> "AotInductorEngine":
    """The engine of a verified bundle, on the device it was compiled for.

    On a CPU it computes with `threads`, like all else of torch in this process; 0 leaves their number as it is.

    Raises:
        BundleRejected: compiled by another torch, or for another processor.
        DependencyUnreachable: it needs a GPU and there is none.
    """
    import torch

    engine = load_package(bundle / read_manifest(bundle).engine_file)
    if threads and engine.device == "cpu":
        torch.set_num_threads(threads)
    return engine


def load_package(package: Path, *, replay: bool = True) -> "AotInductorEngine":
    """The engine in `package`, with the weights that lie beside it, if any; see `load`.

    `replay` records its calls as CUDA graphs where it runs on a GPU.
    """
    import torch

    record = PackageRecord.read(package)
    if record.torch.split("+")[0] != torch.__version__.split("+")[0]:
        raise BundleRejected(
            f"{package} was compiled by torch {record.torch}, here is {torch.__version__}; export again"
        )
    here = processor_of(record.device)
    if not runs_on(record, here):
        raise BundleRejected(f"{package} was compiled for {record.processor}, here is {here}; export again here")
    return AotInductorEngine(package, record, replay=replay)


class AotInductorEngine:
    """A loaded package. Callers wait for each other: one runner holds one set of scratch memory."""

    def __init__(self, package: Path, record: PackageRecord, *, replay: bool = True) -> None:
        self._record = record
        self._compiled = open_package(package)
        self._lock = threading.Lock()
        weights = package.with_name(WEIGHTS)
        if weights.is_file():
            self._put(weights)
        self._replayed = (
            Replayed(self._compiled, device=record.device, max_rows=record.max_batch, max_tokens=record.max_sequence)
            if replay and record.device != "cpu"
            else None
        )

    @property
    def device(self) -> str:
        """What it was compiled for: cpu or cuda."""
        return self._record.device

    @property
    def recorded_shapes(self) -> tuple[tuple[int, int], ...]:
        """The shapes whose calls are recorded as CUDA graphs so far; none on a CPU."""
        return () if self._replayed is None else self._replayed.shapes

    def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        """Logits (B, C) and embeddings (B, d) of token rows (B, S); larger batches than compiled for go in pieces.

        Raises:
            DataError: the two arrays differ in shape, have no rows, or S is outside what was compiled.
        """
        limit = self._record.max_sequence
        if input_ids.ndim != 2 or input_ids.shape != attention_mask.shape or not input_ids.shape[0]:
            raise DataError(
                f"input_ids {input_ids.shape} and attention_mask {attention_mask.shape} must both be (B, S)"
            )
        if not 1 <= input_ids.shape[1] <= limit:
            raise DataError(f"texts of {input_ids.shape[1]} tokens; this engine takes 1 to {limit}: truncate them")
        step = self._record.max_batch
        with self._lock:
            pieces = [
                self._run(input_ids[at : at + step], attention_mask[at : at + step])
                for at in range(0, len(input_ids), step)
            ]
        logits, embedding = (np.concatenate(part) for part in zip(*pieces, strict=True))
        return logits, embedding

    def _run(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        import torch

        if self._replayed is not None:
            return self._replayed.run(input_ids, attention_mask)
        ids, mask = (
            torch.from_numpy(np.array(rows, dtype=np.int64)).to(self._record.device)
            for rows in (input_ids, attention_mask)
        )
        with torch.no_grad():
            logits, embedding = self._compiled(ids, mask)
        return logits.float().cpu().numpy(), embedding.float().cpu().numpy()

    def _put(self, path: Path) -> None:
        from safetensors.torch import load_file

        weights = load_file(str(path), device=self._record.device)
        if describe(weights) != dict(self._record.weights):
            raise BundleRejected(f"{path} has other weights than its package was compiled with; export again")
        self._compiled.load_constants(weights, check_full_update=True, user_managed=False)
