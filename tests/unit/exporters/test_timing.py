"""Engines take turns on rows, and which is faster is told over all sizes alike."""

import time
from collections.abc import Sequence
from typing import Any

import pytest

from perennial.exporters.build import engines_to_try
from perennial.exporters.bundle import EngineKind, Precision
from perennial.exporters.timing import processor_name, rows_per_s, times_faster


def test_engines_are_asked_for_batches_of_each_size_in_turns() -> None:
    asked: list[tuple[str, int]] = []

    def engine(name: str, seconds: float) -> Any:
        def answer(rows: Sequence[str]) -> None:
            asked.append((name, len(rows)))
            assert set(rows) <= {"a", "b", "c"}
            time.sleep(seconds)

        return answer

    speeds = rows_per_s({"slow": engine("slow", 0.004), "fast": engine("fast", 0.001)}, ["a", "b", "c"], turn_s=0.01)
    assert set(asked) == {(name, size) for name in ("slow", "fast") for size in (1, 8, 32)}
    assert times_faster(speeds["fast"], speeds["slow"]) > 1.3
    assert speeds["fast"]["32"] > 8 * speeds["fast"]["1"]


def test_what_was_measured_here_comes_first_and_what_is_exact_is_still_there() -> None:
    int8 = EngineKind.ONNXRUNTIME, Precision.INT8
    tried = engines_to_try(before=int8, measured=True)
    assert tried[0] == int8
    assert tried[1:] == engines_to_try()
    assert int8 not in engines_to_try(before=int8)  # measured elsewhere: it is decided anew here
    assert engines_to_try("openvino", "fp32", int8, measured=True) == ((EngineKind.OPENVINO, Precision.FP32),)


def test_a_processor_is_told_by_its_name_and_by_what_it_computes_with() -> None:
    assert processor_name() == processor_name()
    assert processor_name().split()


@pytest.mark.parametrize(("new", "times"), [({"1": 20.0, "32": 200.0}, 2.0), ({"1": 10.0, "32": 400.0}, 2.0)])
def test_all_sizes_count_alike(new: dict[str, float], times: float) -> None:
    assert times_faster(new, {"1": 10.0, "32": 100.0}) == pytest.approx(times)
