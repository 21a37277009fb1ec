"""OpenVINO engines: opened by several threads of one process, and at rest."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from perennial.exporters import runtime
from perennial.exporters.runtime import OpenVinoEngine
from perennial.exporters.signature import Array

Outputs = dict[str, object]


class _Compiled:
    """A compiled model without inputs and outputs."""

    inputs: tuple[object, ...] = ()
    outputs: tuple[object, ...] = ()

    def __init__(self, infer: Callable[[], Outputs] = dict, *, busy: bool = True) -> None:
        self._infer, self.busy, self.requests, self.released = infer, busy, 0, 0

    def create_infer_request(self) -> SimpleNamespace:
        self.requests += 1
        return SimpleNamespace(infer=lambda inputs, share_inputs: self._infer())

    def release_memory(self) -> None:
        self.released += 1
        if self.busy:
            raise RuntimeError("busy")


def _compiles(monkeypatch: pytest.MonkeyPatch, make: Callable[[], _Compiled]) -> None:
    monkeypatch.setattr(runtime, "openvino_core", lambda: SimpleNamespace(compile_model=lambda *_: make()))


def test_first_inferences_are_made_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, both = list[int](), list[int](), threading.Barrier(2, timeout=20)

    def infer() -> Outputs:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return {}

    def opened(_: int) -> OpenVinoEngine:
        both.wait()
        return OpenVinoEngine(Path("model.xml"))

    _compiles(monkeypatch, lambda: _Compiled(infer))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(opened, range(2)))
    assert most == [1, 1]


def test_at_rest_an_engine_lets_go_of_its_requests_and_of_what_was_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = _Compiled()
    _compiles(monkeypatch, lambda: compiled)
    engine = OpenVinoEngine(Path("model.xml"))
    engine.infer({})
    assert compiled.requests == 1
    engine.rest()  # is refused, as a question is under way
    engine.infer({})
    assert (compiled.released, compiled.requests) == (1, 2)


def _cells(count: int) -> dict[str, Array]:
    return {"ids": np.ones(count, dtype=np.int64)}


def test_the_room_of_large_batches_goes_once_none_was_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = _Compiled(busy=False)
    _compiles(monkeypatch, lambda: compiled)
    engine = OpenVinoEngine(Path("model.xml"))
    engine.infer(_cells(1_000))
    assert not engine.settle(), "it was needed since the last look"
    engine.infer(_cells(600))
    assert not engine.settle(), "nearly all of it was needed"
    engine.infer(_cells(10))
    assert engine.settle()
    engine.infer(_cells(10))
    assert not engine.settle(), "it went already"
    assert compiled.released == 1


def test_the_room_of_a_busy_engine_goes_at_a_later_look(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = _Compiled()
    _compiles(monkeypatch, lambda: compiled)
    engine = OpenVinoEngine(Path("model.xml"))
    engine.infer(_cells(1_000))
    engine.settle()
    assert not engine.settle(), "nothing was asked: it rests after a while"
    engine.infer(_cells(10))
    assert not engine.settle()
    compiled.busy = False
    engine.infer(_cells(10))
    assert engine.settle()
    assert not engine.settle()


def test_pages_that_were_mapped_meanwhile_go_while_it_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = list[list[Path]]()
    monkeypatch.setattr(runtime, "let_go_of_pages", lambda files: gone.append(list(files)))
    _compiles(monkeypatch, _Compiled)
    engine = OpenVinoEngine(tmp_path / "model.xml")
    gone.clear()
    engine.infer(_cells(10))
    engine.settle()
    assert gone == [[tmp_path / "model.bin"]]
