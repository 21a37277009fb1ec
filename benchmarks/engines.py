"""CPU engines side by side: `python -m benchmarks.engines --data DIR` (make bench-engines).

Every engine answers the same texts in the same rounds, in a new order each round, tokenisation included. Two kinds of
batches are timed: sorted by length, which is kind to an engine that pads, and as they arrive, which is what a server
sees. The model is trained the first time and cached; a training that was stopped goes on where it was.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine_candidates import BASELINE, Candidate, Swap, build_all, measure_swaps, read_split
from benchmarks.engine_profile import broken_engines, ceiling, profile_onnxruntime, profile_openvino
from benchmarks.engine_training import train
from benchmarks.record import write
from perennial.exporters.batches import run_sorted
from perennial.exporters.build import hardware_precisions
from perennial.exporters.bundle import Precision
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.onnx import export_onnx
from perennial.exporters.parity import ParityVerdict, check_parity, default_limits
from perennial.exporters.port import HeldOut
from perennial.exporters.text_classification.answering import TextAnswerer, Tokenises
from perennial.exporters.text_classification.reference import TorchClassifier
from perennial.exporters.text_classification.signature import INPUT_IDS, TEXT_ENGINE
from perennial.exporters.text_classification.tokens import padded
from perennial.exporters.trained import TrainedModel

__all__ = ["main"]

_BATCH = 32
_CALIBRATION_ROWS = 300
_QUIET_S = 0.02  # threads of the engine before spin for a while
_EAGER = "torch eager fp32"
Rows = list[list[int]]


def main(arguments: Sequence[str]) -> int:
    """Train or find the model, build, compare, write `engines.json`, print a table."""
    options = _parse(arguments)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    cache = options.cache.resolve()
    model = TrainedModel.load(train(options.data, cache, options.threads))
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        results = _measure(options, model, Path(folder))
    path = write("engines", results, options.out)
    _print(results, path)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.csv and test.csv")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--cache", type=Path, default=Path("var/cache/bench-engines"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--timed-rows", type=int, default=320, help="texts of each timed pass")
    parser.add_argument("--rows", type=int, default=100_000, help="test texts of the accuracy and parity pass")
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace, model: TrainedModel, work: Path) -> dict[str, Any]:
    texts, labels = _spread(*read_split(options.data, "test"), options.rows)
    calibration, _ = _spread(read_split(options.data, "train")[0], None, _CALIBRATION_ROWS)
    model.write_tokenizer(work / "tokenizer.json")
    reference = TorchClassifier(model, work / "tokenizer.json")
    calibrated = reference.tokenizer.encode(calibration)
    _say("export and build")
    graph = export_onnx(model, work / "portable.onnx", module=reference.module)
    candidates = build_all(graph, calibrated, work, options.threads)
    _say("profiles, ceiling and broken engines")
    timed, _ = _spread(texts, None, options.timed_rows)
    rows = reference.tokenizer.encode(timed)
    limit, profiles = _ceiling(model, rows, options.threads), _profiles(candidates, rows, work)
    some, known = _spread(texts, labels, 128)
    broken = broken_engines(reference, graph.path, some, known or [], options.threads)
    _say("weight swaps, each beside a full rebuild")
    swaps = measure_swaps(model, candidates, graph, calibrated, work)
    _say(f"accuracy and parity on {len(texts)} texts")
    verdicts = _verdicts(reference, candidates, texts, labels or [])
    engines = {item.title: item.engine for item in candidates} | {_EAGER: reference.engine}
    ways: dict[str, Callable[[Engine, Rows], object]] = {"sorted": _sorted, "arriving": _arriving}
    speeds = {}
    for name, way in ways.items():
        _say(f"speed, batches {name}")
        speeds[name] = _throughput(engines, way, reference.tokenizer, timed, options.rounds)
    latencies = _latency(engines, reference.tokenizer, timed[:60])
    base = f"{BASELINE} fp32"
    records = [
        _record(item, speeds, base, latencies[item.title], verdicts[item.title], swaps.get(item.title))
        for item in candidates
    ]
    ours = [record for record in records if record["accepted"] and record["weight_swap_s"] is not None]
    best = max(ours, key=lambda record: record["rows_per_s"])
    kind = "int8" if best["precision"] == "int8" else "fp32"
    return {
        "hardware_precisions": sorted(hardware_precisions()),
        "threads": options.threads,
        "batch": _BATCH,
        "rows": {"parity": len(texts), "timed": len(timed), "rounds": options.rounds},
        "load_average": os.getloadavg()[0],
        "engines": records,
        "torch_eager_rows_per_s": {name: statistics.median(found[_EAGER]) for name, found in speeds.items()},
        "torch_eager_p50_ms_batch1": latencies[_EAGER],
        "best": {name: best[name] for name in ("engine", "precision", "ratio", "ratio_arriving")},
        "ceiling": limit | {"reached": best["rows_per_s"] / limit[f"{kind}_ceiling_rows_per_s"]},
        "profiles": profiles,
        "broken": broken,
    }


def _spread(texts: list[str], labels: list[str] | None, most: int) -> tuple[list[str], list[str] | None]:
    held = HeldOut(inputs=texts, targets=labels).spread(most)
    return list(held.inputs), None if held.targets is None else list(held.targets)


def _ceiling(model: TrainedModel, rows: Rows, threads: int) -> dict[str, float]:
    shape = json.loads((model.encoder / "config.json").read_text("utf-8"))
    inner, layers = int(shape["intermediate_size"]), int(shape["num_hidden_layers"])
    return ceiling(rows, model.dimension, inner, layers, 2 * model.dimension * len(model.labels), threads)


def _profiles(candidates: Sequence[Candidate], rows: Rows, work: Path) -> dict[str, Any]:
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    middle = [rows[index] for index in order[len(order) // 2 : len(order) // 2 + _BATCH]]
    found = {}
    for item in candidates:
        if item.file.suffix == ".onnx":
            found[item.title] = profile_onnxruntime(item.file, middle, work)
        else:
            found[item.title] = profile_openvino(item.file, middle, "bf16" if item.precision == "bf16" else "f32")
    return found


def _verdicts(
    reference: TorchClassifier, candidates: Sequence[Candidate], texts: list[str], labels: list[str]
) -> dict[str, ParityVerdict]:
    """Each engine against torch, which answers the texts only once."""
    remembering = _with_engine(_Remembered(reference.engine), reference)
    return {
        item.title: check_parity(
            remembering, _with_engine(item.engine, reference), texts, labels, default_limits(item.precision)
        )
        for item in candidates
    }


def _with_engine(engine: Engine, reference: TorchClassifier) -> TextAnswerer:
    """An engine with the reference's tokenizer and labels."""
    return TextAnswerer(engine=engine, tokenizer=reference.tokenizer, labels=reference.labels)


class _Remembered:
    """The reference's engine, each distinct batch computed once."""

    def __init__(self, inner: Engine) -> None:
        self._inner, self._known = inner, dict[tuple[tuple[int, ...], bytes], Outputs]()

    def infer(self, inputs: Inputs) -> Outputs:
        """From memory where the batch was asked before."""
        key = (inputs[INPUT_IDS].shape, inputs[INPUT_IDS].tobytes())
        if key not in self._known:
            self._known[key] = self._inner.infer(inputs)
        return self._known[key]


def _sorted(engine: Engine, rows: Rows) -> None:
    run_sorted(engine, TEXT_ENGINE, padded(rows), _BATCH)


def _arriving(engine: Engine, rows: Rows) -> None:
    for index in range(0, len(rows), _BATCH):
        engine.infer(padded(rows[index : index + _BATCH]))


def _throughput(
    engines: dict[str, Engine],
    way: Callable[[Engine, Rows], object],
    tokenizer: Tokenises,
    texts: list[str],
    rounds: int,
) -> dict[str, list[float]]:
    """Rows per second of each round, engines in a new order each time, after one unmeasured piece."""
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    order = np.random.default_rng(0)
    for engine in engines.values():
        way(engine, tokenizer.encode(texts[:64]))
    for _ in range(rounds):
        for name in order.permutation(sorted(engines)):
            started = time.perf_counter()
            way(engines[name], tokenizer.encode(texts))
            speeds[name].append(len(texts) / (time.perf_counter() - started))
    return speeds


def _latency(engines: dict[str, Engine], tokenizer: Tokenises, texts: list[str]) -> dict[str, float]:
    """Median milliseconds of one text alone, tokenisation included, engines taking turns."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for text in texts:
        for name, engine in engines.items():
            time.sleep(_QUIET_S)
            started = time.perf_counter()
            run_sorted(engine, TEXT_ENGINE, padded(tokenizer.encode([text])), 1)
            times[name].append((time.perf_counter() - started) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def _record(
    item: Candidate,
    speeds: dict[str, dict[str, list[float]]],
    base: str,
    latency: float,
    verdict: ParityVerdict,
    swap: Swap | None,
) -> dict[str, Any]:
    ratios = {
        name: statistics.median(one / other for one, other in zip(found[item.title], found[base], strict=True))
        for name, found in speeds.items()
    }
    return {
        "engine": item.name,
        "precision": item.precision.value,
        "rows_per_s": statistics.median(speeds["sorted"][item.title]),
        "rows_per_s_arriving": statistics.median(speeds["arriving"][item.title]),
        "ratio": ratios["sorted"],
        "ratio_arriving": ratios["arriving"],
        "p50_ms_batch1": latency,
        "accuracy": verdict.accuracy,
        "accuracy_drop": verdict.accuracy_drop,
        "accuracy_drop_interval": list(verdict.accuracy_drop_interval or ()),
        "agreement": verdict.agreement,
        "max_abs_logit_diff": verdict.max_abs_logit,
        "mean_abs_logit_diff": verdict.mean_abs_logit,
        "invariance": verdict.invariance,
        "accepted": verdict.accepted,
        "reasons": list(verdict.reasons),
        "build_s": item.build_s,
        "weight_swap_s": None if swap is None else swap.seconds,
        "weight_swap_of": None if swap is None else swap.scope,
        "rebuild_s": None if swap is None else swap.rebuild_s,
        "swap_max_abs_logit_diff": None if swap is None else swap.max_abs_logit_diff,
        "load_s": item.load_s,
        "size_mb": item.size_mb,
    }


def _print(results: dict[str, Any], path: Path) -> None:
    columns = {
        "rows/s": ("rows_per_s", "{:.0f}"),
        "ratio": ("ratio", "{:.2f}"),
        "arriving": ("rows_per_s_arriving", "{:.0f}"),
        "ratio ": ("ratio_arriving", "{:.2f}"),
        "p50 ms": ("p50_ms_batch1", "{:.1f}"),
        "accuracy": ("accuracy", "{:.4f}"),
        "agree": ("agreement", "{:.4f}"),
        "max diff": ("max_abs_logit_diff", "{:.2g}"),
        "build s": ("build_s", "{:.1f}"),
        "swap s": ("weight_swap_s", "{:.2f}"),
        "rebuild": ("rebuild_s", "{:.1f}"),
        "swap diff": ("swap_max_abs_logit_diff", "{:.1g}"),
        "load s": ("load_s", "{:.2f}"),
        "MB": ("size_mb", "{:.0f}"),
    }
    lines = ["engine".ljust(28) + "".join(head.rjust(10) for head in columns)]
    for item in results["engines"]:
        cells = ["" if item[name] is None else shape.format(item[name]) for name, shape in columns.values()]
        lines.append(f"{item['engine']} {item['precision']}".ljust(28) + "".join(cell.rjust(10) for cell in cells))
    limit = results["ceiling"]
    lines.append(
        f"products reach {limit['fp32_gflops']:.0f} GFLOP/s in FP32 and {limit['int8_gops']:.0f} GOP/s in INT8: "
        f"at most {limit['fp32_ceiling_rows_per_s']:.0f} and {limit['int8_ceiling_rows_per_s']:.0f} rows/s; "
        f"{results['best']['engine']} {results['best']['precision']} reaches {100 * limit['reached']:.0f}% of its own"
    )
    for precision in (Precision.FP32, Precision.BF16, Precision.INT8):
        broken = [item for item in results["broken"] if item["limits"] == precision.value]
        refused = sum(item["refused"] for item in broken)
        lines.append(f"broken engines refused under the limits of {precision.value}: {refused} of {len(broken)}")
    sys.stdout.write("\n".join([*lines, f"wrote {path}"]) + "\n")


def _say(stage: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {stage}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
