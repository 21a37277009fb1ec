"""Calls of a compiled package recorded as CUDA graphs: one launch a batch instead of one a kernel."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from perennial.exporters.aotinductor.shapes import padded_shape

if TYPE_CHECKING:
    import torch

__all__ = ["GRAPHS", "Replayed"]

GRAPHS = 96  # shapes that are recorded; later ones run without
_WARM_UPS = 2  # libraries make their handles and workspaces in the first calls, which no recording may hold
_log = logging.getLogger(__name__)
Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Compiled = Callable[["torch.Tensor", "torch.Tensor"], tuple["torch.Tensor", "torch.Tensor"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recording:
    """One shape's graph with the pinned memory that it reads and writes; both copies are part of it."""

    graph: Any
    given: "torch.Tensor"  # (2, rows, tokens): ids and mask
    logits: "torch.Tensor"
    embedding: "torch.Tensor"


class Replayed:
    """A compiled package on a GPU, answering from recorded calls; for one caller at a time.

    A batch is padded to the next shape that is recorded. Its rows answer the same, because the mask hides padding.
    A shape is recorded when it is first seen, which takes some tens of milliseconds.
    """

    def __init__(self, compiled: Compiled, *, device: str, max_rows: int, max_tokens: int) -> None:
        import torch

        cuda: Any = torch.cuda  # its Stream and graph_pool_handle are untyped
        self._compiled = compiled
        self._device = torch.device(device)
        self._limits = max_rows, max_tokens
        self._stream = cuda.Stream(self._device)
        self._pool = cuda.graph_pool_handle()  # shared: recordings run one after another and keep nothing in it
        self._recordings: dict[tuple[int, int], _Recording] = {}
        self._possible = True

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """The shapes recorded so far."""
        return tuple(self._recordings)

    def run(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        """Logits and embeddings of token rows within the limits."""
        rows, tokens = input_ids.shape
        shape = padded_shape(rows, tokens, max_rows=self._limits[0], max_tokens=self._limits[1])
        recording = self._recording(shape)
        if recording is None:
            return self._run_directly(input_ids, attention_mask)
        given = recording.given.numpy()
        given[:] = 0
        given[0, :rows, :tokens] = input_ids
        given[1, :rows, :tokens] = attention_mask
        import torch

        with torch.cuda.stream(self._stream):
            recording.graph.replay()
        self._stream.synchronize()
        return recording.logits[:rows].numpy().copy(), recording.embedding[:rows].numpy().copy()

    def _recording(self, shape: tuple[int, int]) -> _Recording | None:
        recording = self._recordings.get(shape)
        if recording is None and self._possible and len(self._recordings) < GRAPHS:
            try:
                recording = self._recordings[shape] = self._record(shape)
            except RuntimeError as exc:  # torch's one type for whatever CUDA refuses
                self._possible = False
                _log.warning("engine.graphs_not_possible", extra={"shape": list(shape), "reason": str(exc)})
        return recording

    def _record(self, shape: tuple[int, int]) -> _Recording:
        import torch

        given = torch.zeros((2, *shape), dtype=torch.int64).pin_memory()
        given[:] = 1
        with torch.no_grad(), torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                answers = self._compiled(*given.to(self._device))
            logits, embedding = (torch.empty(a.shape, dtype=torch.float32).pin_memory() for a in answers)
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                answers = self._compiled(*given.to(self._device, non_blocking=True))
                logits.copy_(answers[0], non_blocking=True)
                embedding.copy_(answers[1], non_blocking=True)
        return _Recording(graph=graph, given=given, logits=logits, embedding=embedding)

    def _run_directly(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        import torch

        with torch.no_grad(), torch.cuda.stream(self._stream):
            ids, mask = (
                torch.from_numpy(np.array(rows, dtype=np.int64)).to(self._device)
                for rows in (input_ids, attention_mask)
            )
            logits, embedding = self._compiled(ids, mask)
            return logits.float().cpu().numpy(), embedding.float().cpu().numpy()
