"""CPU engines side by side: `python -m benchmarks.engines --data DIR` (make bench-engines).

Every engine answers the same texts in the same rounds, in a new order each round, tokenisation included; medians and
ratios within a round are quoted. INT8 and BF16 are compared where this CPU has them, and the JSON says what it has.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine_candidates import BASELINE, Candidate, build_all, read_split, train
from benchmarks.engine_profile import broken_engines, ceiling, profile_openvino
from benchmarks.record import write
from exporters.build import hardware_precisions
from exporters.classifier import TextTokenizer, run_sorted
from exporters.parity import ParityVerdict, check_parity, default_limits
from exporters.reference import TorchClassifier
from exporters.runtime import Engine
from exporters.texts import spread
from exporters.trained import TrainedModel

__all__ = ["main"]

_BATCH = 32


def main(arguments: Sequence[str]) -> int:
    """Train or find the model, build, compare, write `engines.json`, print a table."""
    options = _parse(arguments)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    import torch

    torch.set_num_threads(options.threads)
    cache = options.cache.resolve()
    model = train(options.data, cache, options.learner, options.threads)
    texts, labels = read_split(options.data, "test")
    calibration, _ = spread(read_split(options.data, "train")[0], None, 300)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        work = Path(folder)
        model.write_tokenizer(work / "tokenizer.json")
        reference = TorchClassifier(model, work / "tokenizer.json")
        candidates = build_all(model, reference, calibration, work, options.threads)
        results = _measure(options, model, reference, candidates, texts, labels)
    path = write("engines", results, options.out)
    _print(results, path)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.csv and test.csv")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--cache", type=Path, default=Path("var/cache/bench-engines"))
    parser.add_argument("--learner", choices=("kernel_lda", "finetune"), default="kernel_lda")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--timed-rows", type=int, default=512, help="texts of each timed pass")
    parser.add_argument("--parity-rows", type=int, default=100_000, help="texts of the accuracy and parity pass")
    return parser.parse_args(arguments)


def _measure(
    options: argparse.Namespace, model: TrainedModel, reference: TorchClassifier,
    candidates: list[Candidate], texts: list[str], labels: list[str],
) -> dict[str, Any]:  # fmt: skip
    proof, truth = spread(texts, labels, options.parity_rows)
    timed, _ = spread(texts, None, options.timed_rows)
    rows = reference.tokenizer.encode(timed)
    verdicts = _verdicts(reference, candidates, proof, truth or [])
    engines: dict[str, Engine] = {_title(item): item.engine for item in candidates}
    speeds = _throughput(engines | {"torch eager fp32": reference.engine}, reference.tokenizer, timed, options.rounds)
    latencies = _latency(engines, reference.tokenizer, timed[:60])
    base = speeds[f"{BASELINE} fp32"]
    records = [
        _record(item, speeds[_title(item)], base, latencies[_title(item)], verdicts[_title(item)])
        for item in candidates
    ]
    width = model.head["weight"].shape[1]
    shape = json.loads((model.encoder / "config.json").read_text("utf-8"))
    inner, layers = int(shape["intermediate_size"]), int(shape["num_hidden_layers"])
    limit = ceiling(rows, model.dimension, inner, layers, 2 * width * (model.dimension + len(model.labels)))
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    middle = [rows[index] for index in order[len(order) // 2 : len(order) // 2 + _BATCH]]
    profiles = {
        _title(item): profile_openvino(
            item.file, middle, options.threads, "bf16" if item.precision == "bf16" else "f32"
        )
        for item in candidates
        if item.name == "openvino"
    }
    best = max(records, key=lambda record: record["rows_per_s"])
    return {
        "hardware_precisions": sorted(hardware_precisions()),
        "threads": options.threads,
        "batch": _BATCH,
        "learner": options.learner,
        "rows": {"parity": len(proof), "timed": len(timed), "rounds": options.rounds},
        "load_average": os.getloadavg()[0],
        "engines": records,
        "torch_eager_rows_per_s": statistics.median(speeds["torch eager fp32"]),
        "best": {"engine": best["engine"], "precision": best["precision"], "ratio": best["ratio_to_onnxruntime_fp32"]},
        "sorting_by_length": _sorting(engines, reference.tokenizer, timed, options.rounds),
        "ceiling": limit | {"reached": best["rows_per_s"] / limit["ceiling_rows_per_s"]},
        "profiles": profiles,
        "broken": broken_engines(reference, candidates[0].file, *_some(proof, truth or []), options.threads),
    }


def _some(texts: list[str], labels: list[str]) -> tuple[list[str], list[str]]:
    chosen, known = spread(texts, labels, 128)
    return chosen, known or []


def _title(item: Candidate) -> str:
    return f"{item.name} {item.precision.value}"


def _verdicts(
    reference: TorchClassifier, candidates: Sequence[Candidate], texts: list[str], labels: list[str]
) -> dict[str, ParityVerdict]:
    """Each engine against torch, which answers the texts only once."""
    asked = _Remembered(reference)
    return {
        _title(item): check_parity(asked, _Pair(item.engine, reference), texts, labels, default_limits(item.precision))
        for item in candidates
    }


class _Pair:
    """An engine with the reference's tokenizer and labels."""

    def __init__(self, engine: Engine, reference: TorchClassifier) -> None:
        self.engine, self.tokenizer, self.labels = engine, reference.tokenizer, reference.labels


class _Remembered(_Pair):
    """The reference, each distinct batch computed once."""

    def __init__(self, reference: TorchClassifier) -> None:
        super().__init__(self, reference)
        self._inner, self._known = reference.engine, {}  # type: ignore[var-annotated]

    def infer(self, input_ids: Any, attention_mask: Any) -> Any:
        """Logits and embeddings, from memory where the batch was asked before."""
        key = (input_ids.shape, input_ids.tobytes())
        if key not in self._known:
            self._known[key] = self._inner.infer(input_ids, attention_mask)
        return self._known[key]


def _throughput(
    engines: dict[str, Engine], tokenizer: TextTokenizer, texts: list[str], rounds: int
) -> dict[str, list[float]]:
    """Rows per second of each round, engines in a new order each time, after one unmeasured pass."""
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    order = np.random.default_rng(0)
    for engine in engines.values():
        run_sorted(engine, tokenizer.encode(texts[:64]), _BATCH)
    for _ in range(rounds):
        for name in order.permutation(sorted(engines)):
            started = time.perf_counter()
            run_sorted(engines[name], tokenizer.encode(texts), _BATCH)
            speeds[name].append(len(texts) / (time.perf_counter() - started))
    return speeds


def _latency(engines: dict[str, Engine], tokenizer: TextTokenizer, texts: list[str]) -> dict[str, float]:
    """Median milliseconds of one text alone, tokenisation included, engines taking turns."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for text in texts:
        for name, engine in engines.items():
            started = time.perf_counter()
            run_sorted(engine, tokenizer.encode([text]), 1)
            times[name].append((time.perf_counter() - started) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def _sorting(engines: dict[str, Engine], tokenizer: TextTokenizer, texts: list[str], rounds: int) -> dict[str, float]:
    """How much faster batches by length are than batches in the order of arrival: median of the rounds' ratios."""
    from exporters.classifier import pad

    ratios: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(max(1, rounds // 2)):
        for name, engine in engines.items():
            started = time.perf_counter()
            rows = tokenizer.encode(texts)
            for index in range(0, len(rows), _BATCH):
                engine.infer(*pad(rows[index : index + _BATCH]))
            arrived = time.perf_counter()
            run_sorted(engine, tokenizer.encode(texts), _BATCH)
            ratios[name].append((arrived - started) / (time.perf_counter() - arrived))
    return {name: statistics.median(values) for name, values in ratios.items()}


def _record(
    item: Candidate, speeds: list[float], base: list[float], latency: float, verdict: ParityVerdict
) -> dict[str, Any]:
    ratios = [one / other for one, other in zip(speeds, base, strict=True)]
    return {
        "engine": item.name,
        "precision": item.precision.value,
        "rows_per_s": statistics.median(speeds),
        "ratio_to_onnxruntime_fp32": statistics.median(ratios),
        "p50_ms_batch1": latency,
        "accuracy": verdict.accuracy,
        "accuracy_drop": verdict.accuracy_drop,
        "accuracy_drop_interval": list(verdict.accuracy_drop_interval or ()),
        "agreement": verdict.agreement,
        "max_abs_logit_diff": verdict.max_abs_logit,
        "mean_abs_logit_diff": verdict.mean_abs_logit,
        "invariance": verdict.invariance,
        "accepted": verdict.accepted,
        "build_s": item.build_s,
        "weight_swap_s": item.weight_swap_s,
        "weight_swap_of": item.swap_scope,
        "load_s": item.load_s,
        "size_mb": item.size_mb,
    }


def _print(results: dict[str, Any], path: Path) -> None:
    heads = ("rows/s", "ratio", "p50 ms", "accuracy", "agreement", "max diff", "build s", "swap s", "load s", "MB")
    lines = ["engine".ljust(28) + "".join(head.rjust(10) for head in heads)]
    for item in results["engines"]:
        cells = [
            f"{item['rows_per_s']:.0f}",
            f"{item['ratio_to_onnxruntime_fp32']:.2f}",
            f"{item['p50_ms_batch1']:.1f}",
        ]
        cells += [f"{100 * item['accuracy']:.2f}", f"{item['agreement']:.4f}", f"{item['max_abs_logit_diff']:.2g}"]
        cells += [f"{item['build_s']:.1f}", "" if item["weight_swap_s"] is None else f"{item['weight_swap_s']:.2f}"]
        cells += [f"{item['load_s']:.2f}", f"{item['size_mb']:.1f}"]
        lines.append(f"{item['engine']} {item['precision']}".ljust(28) + "".join(cell.rjust(10) for cell in cells))
    ceiling_ = results["ceiling"]
    lines.append(
        f"FP32 ceiling {ceiling_['ceiling_rows_per_s']:.0f} rows/s at {ceiling_['fp32_gflops']:.0f} GFLOP/s; "
        f"reached {100 * ceiling_['reached']:.0f}%"
    )
    refused = sum(item["refused"] for item in results["broken"])
    lines.append(f"broken engines refused: {refused} of {len(results['broken'])}; wrote {path}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
