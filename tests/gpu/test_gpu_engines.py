"""Real engines on a real GPU: parity with eager FP32, refit equal to a rebuild, and throughput side by side.

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

from perennial.exporters.aotinductor import build_package, load_package, swap_weights
from perennial.exporters.bundle import Precision
from perennial.exporters.tensorrt import (
    BuildOptions,
    Profile,
    TensorRtEngine,
    build_plan,
    detect_machine,
    load_plan,
    refit_plan,
)
from tests.gpu.model import DEVICE, MAX_LENGTH, Classifier, Sample, difference, load_classifier

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),  # a plan takes a minute or two to build
    pytest.mark.filterwarnings("default"),  # drivers and compilers of any machine may warn
]

# largest difference as a part of the logits' spread, and least agreement of the labels
LIMITS = {Precision.FP32: (0.002, 0.998), Precision.FP16: (0.05, 0.98), Precision.BF16: (0.30, 0.93)}
PROFILES = (
    Profile(best_batch=32, best_sequence=16, max_batch=128, max_sequence=32),
    Profile(best_batch=32, best_sequence=64, max_batch=128, max_sequence=MAX_LENGTH),
)
SHAPES = ((1, 8), (16, 8), (64, 8), (128, 20), (32, 100))  # rows, words
ROUNDS, CALLS = 5, 20
CALLERS, CALLER_ROWS, CALLER_S = (1, 8, 32), 4, 2.0


def _check(found: dict[str, float], precision: Precision) -> None:
    limit, agreement = LIMITS[precision]
    assert found["max_abs_logit_diff"] <= limit * found["logit_spread"], found
    assert found["agreement"] >= agreement, found


def _options(precision: Precision) -> BuildOptions:
    return BuildOptions(precision=precision, profiles=PROFILES)


@pytest.fixture(scope="module")
def plans(graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Precision], Path]:
    """A plan for each precision, built once."""
    detect_machine()  # without TensorRT this fails here, in one sentence
    folder = tmp_path_factory.mktemp("plans")

    def plan(precision: Precision) -> Path:
        path = folder / precision.value / "model.plan"
        if not path.is_file():
            build_plan(graph, path, _options(precision), cache_dir=folder / "cache")
        return path

    return plan


@pytest.fixture(scope="module")
def packages(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Precision], Path]:
    """A package for each precision, compiled once."""
    folder = tmp_path_factory.mktemp("packages")

    def package(precision: Precision) -> Path:
        path = folder / precision.value / "model.pt2"
        if not path.is_file():
            build_package(
                classifier.module, path, precision=precision, device=DEVICE, max_batch=128, max_sequence=MAX_LENGTH
            )
        return path

    return package


@pytest.mark.parametrize("precision", LIMITS)
def test_aotinductor_answers_like_eager(
    packages: Any, sample: Sample, figures: dict[str, Any], precision: Precision
) -> None:
    started = time.perf_counter()
    engine = load_package(packages(precision))
    found = difference(engine, sample)
    figures.setdefault("parity", {})[f"aotinductor {precision.value}"] = {
        **found,
        "build_s": time.perf_counter() - started,
    }
    _check(found, precision)


def test_aotinductor_swap_answers_like_the_new_model(packages: Any, sample: Sample, figures: dict[str, Any]) -> None:
    package = packages(Precision.FP32)
    newer = load_classifier(DEVICE, seed=9)
    started = time.perf_counter()
    weights = swap_weights(newer.module, package)
    figures["aotinductor swap_s"] = time.perf_counter() - started
    try:
        logits, _ = load_package(package).infer(sample.ids, sample.mask)
    finally:
        weights.unlink()
    wanted, _ = newer.answer(sample.ids, sample.mask)
    assert np.abs(logits - wanted).max() <= LIMITS[Precision.FP32][0] * wanted.std()
    assert np.abs(logits - sample.logits).max() > wanted.std()  # they are other weights


@pytest.mark.parametrize("precision", LIMITS)
def test_tensorrt_answers_like_eager(plans: Any, sample: Sample, figures: dict[str, Any], precision: Precision) -> None:
    started = time.perf_counter()
    engine = load_plan(plans(precision))
    found = difference(engine, sample)
    figures.setdefault("parity", {})[f"tensorrt {precision.value}"] = {
        **found,
        "build_s": time.perf_counter() - started,
    }
    _check(found, precision)


def test_tensorrt_answers_do_not_depend_on_padding_or_batch(plans: Any, sample: Sample) -> None:
    engine: TensorRtEngine = load_plan(plans(Precision.FP32))
    ids, mask = sample.ids[:8], sample.mask[:8]
    wide = ((0, 0), (0, MAX_LENGTH - ids.shape[1]))
    together = engine.infer(ids, mask)[0]
    alone = np.concatenate([engine.infer(ids[row : row + 1], mask[row : row + 1])[0] for row in range(8)])
    padded = engine.infer(np.pad(ids, wide), np.pad(mask, wide))[0]
    limit = LIMITS[Precision.FP32][0] * sample.logits.std()
    np.testing.assert_allclose(alone, together, atol=limit)
    np.testing.assert_allclose(padded, together, atol=limit)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_tensorrt_refit_equals_a_rebuild(
    plans: Any, sample: Sample, figures: dict[str, Any], tmp_path: Path, precision: Precision
) -> None:
    newer = load_classifier(DEVICE, seed=9)
    graph = newer.export(tmp_path / "newer.onnx")
    refit = refit_plan(graph, plans(precision), tmp_path / "refit" / "model.plan")
    build = build_plan(graph, tmp_path / "build" / "model.plan", _options(precision), cache_dir=tmp_path / "cache")
    figures[f"tensorrt {precision.value} refit_s"] = refit.seconds
    figures[f"tensorrt {precision.value} rebuild_s"] = build.seconds
    wanted, _ = newer.answer(sample.ids, sample.mask)
    for plan in ("refit", "build"):
        logits, _ = load_plan(tmp_path / plan / "model.plan").infer(sample.ids, sample.mask)
        assert np.abs(logits - wanted).max() <= LIMITS[precision][0] * wanted.std(), plan
    again = refit_plan(graph, tmp_path / "refit" / "model.plan", tmp_path / "again" / "model.plan")
    assert again.path == "refit"


def test_aotinductor_throughput_beside_torch(classifier: Classifier, packages: Any, figures: dict[str, Any]) -> None:
    engines: dict[str, Any] = {
        "eager fp32": classifier.answer,
        "eager fp16": classifier.narrowed(Precision.FP16).answer,
    }
    for kind in (Precision.FP32, Precision.FP16):
        engines[f"torch.compile {kind.value}"] = classifier.narrowed(kind).compiled().answer
    engines |= {f"aotinductor {kind.value}": load_package(packages(kind)).infer for kind in LIMITS}
    _measure(engines, classifier, figures, "throughput aotinductor")


def test_aotinductor_answers_many_callers_at_once(
    classifier: Classifier, packages: Any, figures: dict[str, Any]
) -> None:
    engine = load_package(packages(Precision.FP16))
    ids, mask = classifier.tokens(CALLER_ROWS, 8, seed=CALLER_ROWS)
    wanted = engine.infer(ids, mask)[0]
    contenders = {"eager fp16": classifier.narrowed(Precision.FP16).answer, "aotinductor fp16": engine.infer}
    table = []
    for callers in CALLERS:
        for name, infer in contenders.items():
            taken, wrong = _call_together(infer, ids, mask, callers)
            assert name != "aotinductor fp16" or wrong(wanted, 1e-3 * wanted.std()) == 0
            p50, p99 = np.percentile(taken, [50, 99]) * 1e3
            rate = len(taken) * CALLER_ROWS / CALLER_S
            row = {"engine": name, "callers": callers, "rows": CALLER_ROWS, "rows_per_s": rate}
            table.append({**row, "p50_ms": p50, "p99_ms": p99})
    figures["many callers"] = table


def test_aotinductor_new_weights_are_loaded_beside_the_serving_ones(
    packages: Any, sample: Sample, figures: dict[str, Any], tmp_path: Path
) -> None:
    package = Path(shutil.copy(packages(Precision.FP32), tmp_path / "model.pt2"))
    shutil.copy(packages(Precision.FP32).with_name("model.pt2.json"), tmp_path / "model.pt2.json")
    serving, newer = load_package(package), load_classifier(DEVICE, seed=9)
    before = serving.infer(sample.ids, sample.mask)[0]
    swap_weights(newer.module, package)
    started = time.perf_counter()
    after = load_package(package)
    figures["aotinductor load with new weights_s"] = time.perf_counter() - started
    wanted, _ = newer.answer(sample.ids, sample.mask)
    limit = LIMITS[Precision.FP32][0] * wanted.std()
    assert np.abs(after.infer(sample.ids, sample.mask)[0] - wanted).max() <= limit
    np.testing.assert_array_equal(serving.infer(sample.ids, sample.mask)[0], before)  # two versions side by side


def test_tensorrt_throughput_beside_eager(classifier: Classifier, plans: Any, figures: dict[str, Any]) -> None:
    engines = {f"tensorrt {kind.value}": load_plan(plans(kind)).infer for kind in LIMITS}
    _measure({"eager fp32": classifier.answer, **engines}, classifier, figures, "throughput tensorrt")


def _call_together(
    infer: Any, ids: np.ndarray, mask: np.ndarray, callers: int
) -> tuple[list[float], Callable[[np.ndarray, float], int]]:
    """The seconds of each call of `callers` threads for `CALLER_S`, and a count of answers off by more than a limit."""
    infer(ids, mask)
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


def _measure(engines: dict[str, Any], classifier: Classifier, figures: dict[str, Any], name: str) -> None:
    """Rows per second and median latency for each shape, the engines taking turns; host to host, copies included."""
    table = []
    for count, words in SHAPES:
        ids, mask = classifier.tokens(count, words, seed=count)
        seconds: dict[str, list[float]] = {engine: [] for engine in engines}
        for infer in engines.values():
            for _ in range(CALLS):
                infer(ids, mask)
        for _ in range(ROUNDS):
            for engine, infer in engines.items():
                started = time.perf_counter()
                for _ in range(CALLS):
                    infer(ids, mask)
                seconds[engine].append((time.perf_counter() - started) / CALLS)
        base = median(seconds["eager fp32"])
        for engine, taken in seconds.items():
            once = median(taken)
            row = {"engine": engine, "rows": count, "sequence": ids.shape[1], "rows_per_s": count / once}
            table.append({**row, "ms": once * 1e3, "times_eager": base / once})
    figures[name] = table
    best = max(row["times_eager"] for row in table if row["engine"] != "eager fp32")
    assert best > 1.0, table
