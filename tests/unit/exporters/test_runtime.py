"""OpenVINO engines that are opened by several threads of one process."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from perennial.exporters import runtime
from perennial.exporters.runtime import OpenVinoEngine


def test_first_inferences_are_made_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = SimpleNamespace(inputs=[], outputs=[])
    monkeypatch.setattr(runtime, "openvino_core", lambda: SimpleNamespace(compile_model=lambda *_: compiled))
    inside, most, both = list[int](), list[int](), threading.Barrier(2, timeout=20)

    def infer(engine: OpenVinoEngine, inputs: object) -> dict[str, object]:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return {}

    def opened(_: int) -> OpenVinoEngine:
        both.wait()
        return OpenVinoEngine(Path("model.xml"))

    monkeypatch.setattr(OpenVinoEngine, "infer", infer)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(opened, range(2)))
    assert most == [1, 1]
