"""Several pieces of a batch at once: cut by length so that little is padding, one thread each."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from perennial.continual.arrays import in_order
from perennial.exporters.engine import Engine, Floats, Tokens

__all__ = ["StreamedEngine", "cut_by_length"]

_PIECE_TOKENS = 64  # a product over fewer tokens wastes its set-up
_SHORTER = 0.75  # of the piece's longest row: here a cut saves more padding than it costs


class StreamedEngine:
    """A batch in pieces of similar length, as many at a time as there are streams, each on one thread.

    Two threads that share one product wait for each other at the end of it; two that have a piece of the batch each do
    not. And rows that arrive in any order are not all padded to the longest of the batch. What is too little to cut
    goes to `alone`, the same engine with every thread.
    """

    def __init__(self, alone: Engine, single: Engine, streams: int) -> None:
        self._alone, self._single, self._streams = alone, single, streams
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        """See `Engine`."""
        lengths = _lengths(attention_mask)
        pieces = cut_by_length(lengths, self._streams)
        if len(pieces) == 1:
            return self._alone.infer(input_ids, attention_mask)

        def run(piece: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
            longest = max(2, int(lengths[piece].max()))  # the exported graph is for two tokens and more
            return self._single.infer(input_ids[piece, :longest], attention_mask[piece, :longest])

        answers = list(self._workers().map(run, pieces))
        order = np.concatenate(pieces)
        return in_order(order, [logits for logits, _ in answers]), in_order(order, [rest for _, rest in answers])

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._streams, thread_name_prefix="engine")
            return self._pool


def _lengths(mask: Tokens) -> npt.NDArray[np.int64]:
    """Where each row's last real token stands, counted from 1; 0 for a row without any."""
    real = mask != 0
    return np.where(real.any(axis=1), mask.shape[1] - real[:, ::-1].argmax(axis=1), 0).astype(np.int64)


def cut_by_length(lengths: Sequence[int] | npt.NDArray[np.int64], streams: int) -> list[npt.NDArray[np.intp]]:
    """Row numbers in pieces of similar length, most work first; every row is in exactly one piece.

    A piece ends where the rows get much shorter than its longest, or when it holds its stream's share of the tokens.

    >>> [piece.tolist() for piece in cut_by_length([5, 60, 6, 58], 1)]
    [[1, 3, 2, 0]]
    >>> [piece.tolist() for piece in cut_by_length([5, 60, 6, 58] * 8, 1)][0]
    [1, 5, 9, 13, 17, 21, 25, 29, 3, 7, 11, 15, 19, 23, 27, 31]
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order: npt.NDArray[np.intp] = np.argsort(-sizes, kind="stable")
    share = max(_PIECE_TOKENS, -(-int(sizes.sum()) // max(1, streams)))
    left = int(sizes.sum())
    pieces: list[list[int]] = []
    longest = tokens = 0
    for row in order:
        size = int(sizes[row])
        full = tokens >= share or (tokens >= _PIECE_TOKENS and size < _SHORTER * longest)
        if not pieces or (full and left >= _PIECE_TOKENS):
            pieces.append([])
            longest, tokens = size, 0
        pieces[-1].append(int(row))
        tokens += size
        left -= size
    made = [np.array(piece, dtype=np.intp) for piece in pieces]
    return sorted(made, key=lambda piece: -len(piece) * int(sizes[piece].max()))
