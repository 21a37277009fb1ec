"""Real engines on a real GPU: parity with eager FP32, new weights, and throughput side by side.

`make test-gpu` runs this unchanged and leaves the figures in `benchmarks/out/gpu.json`.
"""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from perennial.continual.errors import DependencyUnreachable
from perennial.exporters.aotinductor import load_package, swap_weights
from perennial.exporters.bundle import Precision
from perennial.exporters.tensorrt import TensorRtEngine, build_plan, load_plan, refit_plan
from tests.gpu.contenders import ENGINES, REFERENCE, Infer, Workshop, plan_options
from tests.gpu.model import DEVICE, MAX_LENGTH, Classifier, Sample, difference, load_classifier

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),  # a plan takes a minute or two to build
    pytest.mark.filterwarnings("default"),  # drivers and compilers of any machine may warn
]

# largest difference as a part of the logits' spread, and least agreement of the labels
LIMITS = {"fp32": (0.002, 0.998), "fp16": (0.05, 0.98), "bf16": (0.30, 0.93)}
SHAPES = ((1, 8), (16, 8), (64, 8), (128, 20), (32, 100))  # rows, words
ROUNDS, CALLS = 5, 20
CALLERS, CALLER_ROWS, CALLER_S = (1, 8, 32), 4, 2.0
TOGETHER = (REFERENCE, "eager fp16", "torch.compile fp16", "onnxruntime cuda fp16", "aotinductor fp16", "tensorrt fp16")


def _limits(name: str) -> tuple[float, float]:
    return next(limits for kind, limits in LIMITS.items() if kind in name)


@pytest.mark.parametrize("name", ENGINES)
def test_engine_answers_like_eager_or_says_what_is_missing(
    workshop: Workshop, sample: Sample, figures: dict[str, Any], name: str
) -> None:
    started = time.perf_counter()
    infer = _open(workshop, name)
    if isinstance(infer, str):
        figures.setdefault("absent", {})[name] = infer
        assert "; " in infer  # what is missing, and what to do
        return
    found = difference(infer, sample)
    figures.setdefault("parity", {})[name] = {**found, "build_and_load_s": time.perf_counter() - started}
    limit, agreement = _limits(name)
    assert found["max_abs_logit_diff"] <= limit * found["logit_spread"], found
    assert found["agreement"] >= agreement, found


@pytest.mark.parametrize("name", ["aotinductor fp32", "tensorrt fp32"])
def test_answers_do_not_depend_on_padding_or_batch(workshop: Workshop, sample: Sample, name: str) -> None:
    infer = _open(workshop, name)
    if isinstance(infer, str):
        pytest.fail(infer, pytrace=False)
    ids, mask = sample.ids[:8], sample.mask[:8]
    wide = ((0, 0), (0, MAX_LENGTH - ids.shape[1]))
    together = infer(ids, mask)[0]
    alone = np.concatenate([infer(ids[row : row + 1], mask[row : row + 1])[0] for row in range(8)])
    padded = infer(np.pad(ids, wide), np.pad(mask, wide))[0]
    limit = LIMITS["fp32"][0] * sample.logits.std()
    np.testing.assert_allclose(alone, together, atol=limit)
    np.testing.assert_allclose(padded, together, atol=limit)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_aotinductor_swap_answers_like_the_new_model(
    workshop: Workshop, sample: Sample, figures: dict[str, Any], tmp_path: Path, precision: Precision
) -> None:
    package = Path(shutil.copy(workshop.package(precision), tmp_path / "model.pt2"))
    shutil.copy(workshop.package(precision).with_name("model.pt2.json"), tmp_path / "model.pt2.json")
    serving, newer = load_package(package), load_classifier(DEVICE, seed=9)
    before = serving.infer(sample.ids, sample.mask)[0]
    started = time.perf_counter()
    swap_weights(newer.module, package)
    swapped = time.perf_counter()
    after = load_package(package)
    figures.setdefault("swap", {})[f"aotinductor {precision.value}"] = {
        "swap_s": swapped - started,
        "load_s": time.perf_counter() - swapped,
    }
    wanted, _ = newer.answer(sample.ids, sample.mask)
    assert np.abs(after.infer(sample.ids, sample.mask)[0] - wanted).max() <= LIMITS[precision.value][0] * wanted.std()
    assert np.abs(wanted - sample.logits).max() > wanted.std()  # they are other weights
    np.testing.assert_array_equal(serving.infer(sample.ids, sample.mask)[0], before)  # two versions side by side


def test_aotinductor_records_its_calls_and_answers_the_same(workshop: Workshop, sample: Sample) -> None:
    recorded = load_package(workshop.package(Precision.FP32))
    directly = load_package(workshop.package(Precision.FP32), replay=False)
    for count in (1, 5, 200):
        ids, mask = sample.ids[:count], sample.mask[:count]
        limit = LIMITS["fp32"][0] * sample.logits.std()
        np.testing.assert_allclose(recorded.infer(ids, mask)[0], directly.infer(ids, mask)[0], atol=limit)
    assert {rows for rows, _ in recorded.recorded_shapes} == {1, 8, 128}
    assert not directly.recorded_shapes


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_tensorrt_refit_equals_a_rebuild(
    workshop: Workshop, sample: Sample, figures: dict[str, Any], tmp_path: Path, precision: Precision
) -> None:
    newer = load_classifier(DEVICE, seed=9)
    graph = newer.export(tmp_path / "newer.onnx")
    refit = refit_plan(graph, workshop.plan(precision), tmp_path / "refit" / "model.plan")
    build = build_plan(graph, tmp_path / "build" / "model.plan", plan_options(precision), cache_dir=tmp_path / "cache")
    figures.setdefault("swap", {})[f"tensorrt {precision.value}"] = {
        "refit_s": refit.seconds,
        "rebuild_s": build.seconds,
    }
    wanted, _ = newer.answer(sample.ids, sample.mask)
    for plan in ("refit", "build"):
        engine: TensorRtEngine = load_plan(tmp_path / plan / "model.plan")
        logits, _ = engine.infer(sample.ids, sample.mask)
        assert np.abs(logits - wanted).max() <= LIMITS[precision.value][0] * wanted.std(), plan
    again = refit_plan(graph, tmp_path / "refit" / "model.plan", tmp_path / "again" / "model.plan")
    assert again.path == "refit"


def test_throughput_side_by_side(workshop: Workshop, classifier: Classifier, figures: dict[str, Any]) -> None:
    """Rows per second and median latency for each shape, the engines taking turns; host to host, copies included."""
    engines = workshop.present()
    table = []
    for count, words in SHAPES:
        ids, mask = classifier.tokens(count, words, seed=count)
        seconds: dict[str, list[float]] = {engine: [] for engine in engines}
        for infer in engines.values():
            for _ in range(CALLS):
                infer(ids, mask)
        for _ in range(ROUNDS):
            for engine, infer in engines.items():
                for _ in range(CALLS):
                    started = time.perf_counter()
                    infer(ids, mask)
                    seconds[engine].append(time.perf_counter() - started)
        base = median(seconds[REFERENCE])
        for engine, taken in seconds.items():
            once, p99 = median(taken), float(np.percentile(taken, 99))
            row = {"engine": engine, "rows": count, "sequence": ids.shape[1], "rows_per_s": count / once}
            table.append({**row, "ms": once * 1e3, "p99_ms": p99 * 1e3, "times_eager": base / once})
    figures["throughput"] = table
    for count, _ in SHAPES:
        best = max(row["times_eager"] for row in table if row["rows"] == count and "aotinductor" in row["engine"])
        assert best > 1.0, [row for row in table if row["rows"] == count]


def test_many_callers_at_once(workshop: Workshop, classifier: Classifier, figures: dict[str, Any]) -> None:
    ids, mask = classifier.tokens(CALLER_ROWS, 8, seed=CALLER_ROWS)
    contenders = {name: infer for name, infer in workshop.present().items() if name in TOGETHER}
    table = []
    for callers in CALLERS:
        for name, infer in contenders.items():
            wanted = infer(ids, mask)[0]
            taken, wrong = _call_together(infer, ids, mask, callers)
            assert wrong(wanted, 1e-2 * float(wanted.std())) == 0, name
            p50, p99 = np.percentile(taken, [50, 99]) * 1e3
            rate = len(taken) * CALLER_ROWS / CALLER_S
            row = {"engine": name, "callers": callers, "rows": CALLER_ROWS, "rows_per_s": rate}
            table.append({**row, "p50_ms": p50, "p99_ms": p99})
    figures["many callers"] = table
    assert {row["engine"] for row in table} >= {REFERENCE, "aotinductor fp16"}


def _open(workshop: Workshop, name: str) -> Infer | str:
    """The contender, or the sentence why it is not here."""
    try:
        return workshop.open(name)
    except DependencyUnreachable as exc:
        return str(exc)


def _call_together(
    infer: Infer, ids: np.ndarray, mask: np.ndarray, callers: int
) -> tuple[list[float], Callable[[np.ndarray, float], int]]:
    """The seconds of each call of `callers` threads for `CALLER_S`, and a count of answers off by more than a limit."""
    taken: list[float] = []
    answers: list[np.ndarray] = []
    end = time.perf_counter() + CALLER_S

    def call() -> None:
        while (started := time.perf_counter()) < end:
            logits = infer(ids, mask)[0]
            taken.append(time.perf_counter() - started)
            answers.append(logits)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken
    return taken, lambda wanted, limit: sum(bool(np.abs(logits - wanted).max() > limit) for logits in answers)
