"""Several pieces of a batch at once: cut by length so that little is padding, one thread each."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from perennial.continual.arrays import in_order
from perennial.exporters.batches import lengths_of, some_rows
from perennial.exporters.engine import Engine, Inputs, Outputs, Resting, Settling
from perennial.exporters.signature import EngineSignature, Padding

__all__ = ["LaterEngine", "StreamedEngine", "at_work", "cut_by_length"]

logger = logging.getLogger(__name__)
_WORTH = 3  # batches in pieces, after which a version is one that answers and not one that waits
_PIECE_TOKENS = 64  # a product over fewer tokens wastes its set-up
_TRIES = 8  # of each copy with little work, before the faster one has it
_AGAIN = 64  # batches of little work, after which the slower copy is tried again
_KEPT = 0.9  # of what is known of a copy's time, when it is measured once more
_SHORTER = 0.75  # of the piece's longest row: here a cut saves more padding than it costs


class LaterEngine:
    """An engine that is made in the background once it was asked for a few times: it has the weights once more.

    A version that only waits to be promoted, or to be gone back to, never has it.
    """

    def __init__(self, make: Callable[[], Engine], *, worth: int = _WORTH) -> None:
        self._make, self._left, self._worth = make, worth, worth
        self._made: Engine | None = None
        self._unwanted = False  # when it is there
        self._lock = threading.Lock()

    def get(self) -> Engine | None:
        """The engine; None until it is there."""
        if self._made is None and (self._left > 0 or self._unwanted):
            with self._lock:
                self._unwanted = False
                self._left -= 1
                begins = self._left == 0
            if begins:
                # no daemon: a process that ends while a runtime compiles would be aborted, as if something killed it
                threading.Thread(target=self._build, name="later-engine").start()
        return self._made

    def let_go(self) -> None:
        """Have it no more, and count anew; one that is being made goes once it is there, unless it is asked for."""
        with self._lock:
            if self._made is not None:
                self._made, self._left = None, self._worth
            elif self._left <= 0:
                self._unwanted = True

    @property
    def made(self) -> Engine | None:
        """The engine where it is there; asking does not count."""
        return self._made

    def make(self) -> None:
        """Make it now, where nobody has begun to."""
        with self._lock:
            self._unwanted = False
            begins, self._left = self._left > 0, min(self._left, 0)
        if begins:
            self._build()

    def _build(self) -> None:
        try:
            made = self._make()
        except Exception:  # no memory, say; the engine that is there goes on
            logger.exception("engine.no_second_copy")
            return
        with self._lock:
            if self._unwanted:
                self._unwanted, self._left = False, self._worth
            else:
                self._made = made


class StreamedEngine:
    """A batch in pieces of similar length, as many at a time as there are streams, each on one thread.

    Two threads that share one product wait for each other at the end of it; two that have a piece of the batch each do
    not. And rows that arrive in any order are not all padded to the longest of the batch. The pieces go to `alone`, the
    same engine with every thread, one after the other, until there is a second copy. Batches that are asked for at the
    same time share the streams: none waits at another's end. What is too little to cut goes to the copy that is faster
    with it: threads that wait for each other lose much where others use the processors too.
    """

    def __init__(
        self, alone: Engine, single: Engine | LaterEngine, streams: int, signature: EngineSignature, padding: Padding
    ) -> None:
        self._alone, self._single, self._streams = alone, single, streams
        self._signature, self._padding = signature, padding
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._batches = 0  # at work
        self._small = _Faster()

    def make_second_copy(self) -> None:
        """Have at once what a version that answers gets in the background."""
        if isinstance(self._single, LaterEngine):
            self._single.make()

    def rest(self) -> None:
        """Let go of the copy that came in the background, and of what the other one keeps beside its weights."""
        if isinstance(self._single, LaterEngine):
            self._single.let_go()
        self._small = _Faster()  # a copy that is made again has a first answer again
        if isinstance(self._alone, Resting):
            self._alone.rest()

    def settle(self) -> bool:
        """Have each copy let go of what it needs no longer; both stay. See `Settling`."""
        single = self._single.made if isinstance(self._single, LaterEngine) else self._single
        copies: list[object] = [self._alone] if single is self._alone else [self._alone, single]
        settled = [copy.settle() for copy in copies if isinstance(copy, Settling)]
        return any(settled)

    def infer(self, inputs: Inputs) -> Outputs:
        """See `Engine`."""
        with self._at_work() as batches:
            return self._infer(inputs, batches)

    def _infer(self, inputs: Inputs, batches: int) -> Outputs:
        lengths = lengths_of(self._padding, inputs)
        pieces = cut_by_length(lengths, -(-self._streams // batches))
        if len(pieces) == batches == 1:
            return self._infer_little(inputs)

        single = self._single.get() if isinstance(self._single, LaterEngine) else self._single
        engine = self._alone if single is None else single

        def run(piece: npt.NDArray[np.intp]) -> Outputs:
            return engine.infer(some_rows(self._signature, inputs, piece, int(lengths[piece].max())))

        answers = list(map(run, pieces) if single is None else self._workers().map(run, pieces))
        order = np.concatenate(pieces)
        return {name: in_order(order, [answer[name] for answer in answers]) for name in answers[0]}

    def _infer_little(self, inputs: Inputs) -> Outputs:
        single = self._single.made if isinstance(self._single, LaterEngine) else self._single
        if single is None or single is self._alone:
            return self._alone.infer(inputs)
        second = self._small.choose()
        began = time.perf_counter()
        outputs = (single if second else self._alone).infer(inputs)
        cells = max(array.size for array in inputs.values())
        self._small.took(second, (time.perf_counter() - began) / max(1, cells))
        return outputs

    @contextmanager
    def _at_work(self) -> Iterator[int]:
        """How many batches are at work, with this one."""
        with self._lock:
            self._batches = batches = self._batches + 1
        try:
            yield batches
        finally:
            with self._lock:
                self._batches -= 1

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._streams, thread_name_prefix="engine")
            return self._pool


class _Faster:
    """Which of two copies is faster, as measured while they answer. Safe enough to share: a lost count is no harm."""

    def __init__(self) -> None:
        self._times: list[float | None] = [None, None]
        self._tried = [0, 0]
        self._turn = 0

    def choose(self) -> bool:
        """Whether the second one is to be asked now."""
        self._turn += 1
        if min(self._tried) < _TRIES:
            return self._turn % 2 == 0
        first, second = (seconds or 0.0 for seconds in self._times)
        faster = second < first
        return faster != (self._turn % _AGAIN == 0)

    def took(self, second: bool, seconds: float) -> None:
        """What one of them took for a unit of work."""
        if self._tried[second]:  # its first one makes what all later ones use, and tells nothing of them
            before = self._times[second]
            self._times[second] = seconds if before is None else _KEPT * before + (1 - _KEPT) * seconds
        self._tried[second] += 1


def at_work(engine: Engine) -> Engine:
    """The engine as it is once it has answered for a while; whoever times it times that, and not how it comes to it."""
    if isinstance(engine, StreamedEngine):
        engine.make_second_copy()
    return engine


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
    places = [np.array(piece, dtype=np.intp) for piece in pieces]
    return sorted(places, key=lambda piece: -len(piece) * int(sizes[piece].max()))
