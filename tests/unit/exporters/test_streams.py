"""Batches in pieces: nothing lost, nothing moved, little padding, and the engine asked as promised."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.signature import Padding
from perennial.exporters.streams import LaterEngine, StreamedEngine, at_work, cut_by_length
from perennial.exporters.text_classification.signature import TEXT_ENGINE
from perennial.exporters.text_classification.tokens import FromTokens, token_inputs

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Echo:
    """Answers a row with the sum of its tokens, and remembers the shapes it was asked for."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []
        self.threads: set[str] = set()

    def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        self.shapes.append((input_ids.shape[0], input_ids.shape[1]))
        self.threads.add(threading.current_thread().name)
        total = (input_ids * attention_mask).sum(axis=1, keepdims=True).astype(np.float32)
        return total, -total


def streamed(alone: Echo, single: Echo, streams: int) -> StreamedEngine:
    padding = Padding(dim="tokens", mask="attention_mask", least=2)
    return StreamedEngine(FromTokens(alone), FromTokens(single), streams, TEXT_ENGINE, padding)


def batch(lengths: list[int]) -> tuple[Tokens, Tokens]:
    width = max(lengths)
    ids = np.arange(1, len(lengths) * width + 1, dtype=np.int64).reshape(len(lengths), width)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    return ids, mask


@pytest.mark.parametrize("streams", [1, 2, 5])
@pytest.mark.parametrize("seed", range(6))
def test_every_row_is_in_one_piece(streams: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 90, size=1 + 17 * seed)
    pieces = cut_by_length(lengths, streams)
    assert sorted(np.concatenate(pieces).tolist()) == list(range(len(lengths)))
    padded = sum(len(piece) * int(lengths[piece].max()) for piece in pieces)
    assert padded <= len(lengths) * int(lengths.max())


def test_mixed_lengths_lose_most_of_their_padding() -> None:
    lengths = np.array([8, 12, 60, 14, 9, 11, 40, 13] * 4)
    padded = sum(len(piece) * int(lengths[piece].max()) for piece in cut_by_length(lengths, 1))
    assert padded < 1.2 * lengths.sum() < 0.5 * len(lengths) * 60


def test_equal_lengths_are_shared_out_evenly() -> None:
    assert [len(piece) for piece in cut_by_length([13] * 32, 2)] == [16, 16]


@pytest.mark.parametrize("lengths", [[5], [3, 4, 5], [0, 1]])
def test_little_work_is_not_cut(lengths: list[int]) -> None:
    alone, single = Echo(), Echo()
    ids, mask = batch([max(1, size) for size in lengths])
    streamed(alone, single, 4).infer(token_inputs(ids, mask))
    assert (len(alone.shapes) + len(single.shapes), single.threads | alone.threads) == (1, {"MainThread"})


class Timed(Echo):
    """Takes so many seconds of a clock for a batch, and others for its first one."""

    def __init__(self, clock: list[float], *, first_s: float, later_s: float) -> None:
        super().__init__()
        self.clock, self.first_s, self.later_s = clock, first_s, later_s

    def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        self.clock[0] += self.later_s if self.shapes else self.first_s
        return super().infer(input_ids, attention_mask)


@pytest.mark.parametrize("first_is_faster", [True, False])
def test_little_work_goes_to_the_copy_that_is_faster_with_it(
    first_is_faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long its first batch took, and also when that changes: somebody else uses the processors now, say."""
    clock = [0.0]
    monkeypatch.setattr("perennial.exporters.streams.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    faster, slower = Timed(clock, first_s=1.0, later_s=0.001), Timed(clock, first_s=0.003, later_s=0.003)
    engine = streamed(faster, slower, 2) if first_is_faster else streamed(slower, faster, 2)
    ids, mask = batch([5])
    for _ in range(100):
        engine.infer(token_inputs(ids, mask))
    assert len(slower.shapes) < 12 < 80 < len(faster.shapes)
    faster.later_s = 0.009
    for _ in range(100):
        engine.infer(token_inputs(ids, mask))
    assert len(slower.shapes) > 60, "it is the faster one now"


def test_answers_come_back_in_the_rows_order() -> None:
    alone, single = Echo(), Echo()
    ids, mask = batch([8, 70, 12, 30, 9, 65, 20, 41] * 4)
    logits, embedding = streamed(alone, single, 3).infer(token_inputs(ids, mask)).values()
    wanted = (ids * mask).sum(axis=1, keepdims=True)
    assert np.array_equal(logits, wanted)
    assert np.array_equal(embedding, -wanted)
    assert alone.shapes == []
    assert max(rows * width for rows, width in single.shapes) < 32 * 70 / 2
    assert all(name.startswith("engine") for name in single.threads)


def test_batches_at_the_same_time_share_the_streams_and_wait_for_nobody() -> None:
    """One alone is shared out to all of them; each of two has its own."""
    alone, single, second = Echo(), Echo(), threading.Event()
    engine = streamed(alone, single, 2)
    ids, mask = batch([13] * 32)
    infer, begun, waits = single.infer, threading.Event(), threading.Lock()

    def waiting(input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        if waits.acquire(blocking=False):  # one of two pieces does
            begun.set()
            assert second.wait(20)
        return infer(input_ids, attention_mask)

    single.infer = waiting  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(engine.infer, token_inputs(ids, mask))
        assert begun.wait(20)
        few = engine.infer(token_inputs(ids[:2], mask[:2]))
        shared = engine.infer(token_inputs(ids, mask))
        second.set()
        for outputs, rows in ((few, 2), (shared, 32), (first.result(), 32)):
            assert np.array_equal(outputs["logits"], (ids * mask)[:rows].sum(axis=1, keepdims=True))
    assert alone.shapes == []
    assert sorted(rows for rows, _ in single.shapes) == [2, 16, 16, 32]


def test_the_second_copy_is_made_once_and_only_for_a_version_that_answers() -> None:
    alone, single, made = Echo(), Echo(), threading.Event()

    def make() -> FromTokens:
        assert not made.is_set()
        made.set()
        return FromTokens(single)

    later = LaterEngine(make, worth=2)
    padding = Padding(dim="tokens", mask="attention_mask", least=2)
    engine = StreamedEngine(FromTokens(alone), later, 2, TEXT_ENGINE, padding)
    ids, mask = batch([8, 70, 12, 30, 9, 65, 20, 41] * 4)
    wanted = (ids * mask).sum(axis=1, keepdims=True)
    engine.infer(token_inputs(ids[:1], mask[:1]))
    assert np.array_equal(engine.infer(token_inputs(ids, mask))["logits"], wanted)
    assert not made.is_set()
    end = time.monotonic() + 20
    while not single.shapes and time.monotonic() < end:
        assert np.array_equal(engine.infer(token_inputs(ids, mask))["logits"], wanted)
    assert made.is_set()
    assert single.shapes
    assert max(rows * width for rows, width in alone.shapes[1:]) < 32 * 70 / 2


_ENDS_EARLY = """
import time
from perennial.exporters.streams import LaterEngine
LaterEngine(lambda: (time.sleep(0.3), print("made")), worth=1).get()
"""


def test_a_process_does_not_end_in_the_middle_of_a_second_copy() -> None:
    ended = subprocess.run([sys.executable, "-c", _ENDS_EARLY], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "made\n"


def test_whoever_times_an_engine_has_the_second_copy_at_once() -> None:
    alone, single, made = Echo(), Echo(), list[int]()

    def make() -> FromTokens:
        made.append(1)
        return FromTokens(single)

    padding = Padding(dim="tokens", mask="attention_mask", least=2)
    engine = StreamedEngine(FromTokens(alone), LaterEngine(make), 2, TEXT_ENGINE, padding)
    assert at_work(at_work(engine)) is engine
    ids, mask = batch([8, 70, 12, 30, 9, 65, 20, 41] * 4)
    for _ in range(5):
        engine.infer(token_inputs(ids, mask))
    assert (alone.shapes, made) == ([], [1])
    assert single.shapes


def test_a_version_at_rest_has_one_copy_until_it_answers_again() -> None:
    alone, single, made = Echo(), Echo(), list[int]()

    def make() -> FromTokens:
        made.append(1)
        return FromTokens(single)

    later = LaterEngine(make)
    padding = Padding(dim="tokens", mask="attention_mask", least=2)
    engine = StreamedEngine(FromTokens(alone), later, 2, TEXT_ENGINE, padding)
    engine.rest()  # one that never answered
    at_work(engine)
    ids, mask = batch([8, 70, 12, 30, 9, 65, 20, 41] * 4)
    wanted = (ids * mask).sum(axis=1, keepdims=True)
    assert np.array_equal(engine.infer(token_inputs(ids, mask))["logits"], wanted)
    assert alone.shapes == []
    engine.rest()
    engine.rest()
    assert later.made is None
    assert np.array_equal(engine.infer(token_inputs(ids, mask))["logits"], wanted)
    assert (bool(alone.shapes), made) == (True, [1])
    at_work(engine)
    assert made == [1, 1]


@pytest.mark.parametrize("asked_again", [False, True])
def test_a_copy_that_is_being_made_when_rest_comes_stays_only_where_it_is_asked_for(asked_again: bool) -> None:
    go_on, made = threading.Event(), list[int]()

    def make() -> FromTokens:
        made.append(1)
        assert go_on.wait(20)
        return FromTokens(Echo())

    later = LaterEngine(make, worth=1)
    later.get()
    later.let_go()
    if asked_again:
        assert later.get() is None
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "later-engine":
            thread.join(20)
    assert (later.made is not None) == asked_again
    later.make()
    assert later.made is not None
    assert made == [1] * (1 if asked_again else 2)


class _Roomy:
    """Counts how often it settles."""

    def __init__(self, much: bool) -> None:
        self.much, self.settled = much, 0

    def infer(self, inputs: Inputs) -> Outputs:
        return dict(inputs)

    def settle(self) -> bool:
        self.settled += 1
        return self.much


def test_both_copies_settle_and_stay() -> None:
    padding = Padding(dim="tokens", mask="attention_mask", least=2)
    alone, single = _Roomy(True), _Roomy(False)
    later = LaterEngine(lambda: single)
    engine = StreamedEngine(alone, later, 2, TEXT_ENGINE, padding)
    assert engine.settle()
    later.make()
    assert engine.settle()
    assert (alone.settled, single.settled, later.made) == (2, 1, single)
    assert not StreamedEngine(single, single, 1, TEXT_ENGINE, padding).settle()
    assert single.settled == 2


def test_copies_are_measured_anew_after_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("perennial.exporters.streams.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    alone, single = Timed(clock, first_s=0.001, later_s=0.001), Timed(clock, first_s=0.003, later_s=0.003)
    engine = streamed(alone, single, 2)
    ids, mask = batch([5])
    for _ in range(20):
        engine.infer(token_inputs(ids, mask))
    engine.rest()
    before = len(single.shapes)
    for _ in range(10):
        engine.infer(token_inputs(ids, mask))
    assert len(single.shapes) - before == 5


def test_padding_on_the_left_and_empty_rows_are_left_whole() -> None:
    single = Echo()
    ids, mask = batch([40] * 16)
    mask[:8, :30] = 0  # left padding: the last real token is still the last
    mask[8] = 0
    logits = streamed(Echo(), single, 2).infer(token_inputs(ids, mask))["logits"]
    assert np.array_equal(logits, (ids * mask).sum(axis=1, keepdims=True))
