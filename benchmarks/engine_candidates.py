"""What the engine benchmark compares: one trained MiniLM, exported once, compiled by every CPU engine."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from continual.preparation import read_labelled_csv
from exporters.build import build_engine, hardware_precisions
from exporters.bundle import EngineKind, Lineage, Manifest, Precision
from exporters.onnx import OnnxGraph, export_onnx
from exporters.reference import TorchClassifier
from exporters.runtime import Engine, OnnxEngine, OpenVinoEngine
from exporters.trained import TrainedModel
from exporters.weight_swap import swap_weights

__all__ = ["Candidate", "build_all", "read_split", "train"]

BASELINE = "onnxruntime portable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A loaded engine and what it cost to get it; seconds and megabytes of this machine and moment."""

    name: str
    precision: Precision
    engine: Engine
    file: Path
    build_s: float
    load_s: float
    weight_swap_s: float | None
    swap_scope: str
    size_mb: float


def read_split(data: Path, name: str) -> tuple[list[str], list[str]]:
    """Texts and labels of `NAME.csv`."""
    rows = read_labelled_csv(data / f"{name}.csv")
    return [row.text for row in rows], [row.label for row in rows]


def train(data: Path, cache: Path, learner: str, threads: int) -> TrainedModel:
    """The benchmark's model, trained by the product's own job the first time and read from `cache` after that."""
    folder = cache / learner
    if not (folder / "trained" / "model.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        stamp = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
        for name, every in (("train", 1), ("holdout", 10)):  # the holdout only sets temperature and bandwidth
            texts, labels = read_split(data, "train")
            rows = list(zip(texts, labels, strict=True))
            kept = rows[::every] if name == "holdout" else [row for index, row in enumerate(rows) if index % 10]
            lines = [json.dumps({"text": t, "label": y, "at": stamp, "origin": "import", "key": None}) for t, y in kept]
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        spec: dict[str, Any] = {
            "learner": learner, "encoder": "packaged:minilm", "previous": None, "examples": str(folder / "train.jsonl"),
            "replay": None, "holdout": str(folder / "holdout.jsonl"), "out": str(folder / "trained"), "seed": 0,
            "threads": threads, "max_length": 128, "cache": str(cache / "embeddings"), "params": {},
        }  # fmt: skip
        (folder / "spec.json").write_text(json.dumps(spec), "utf-8")
        subprocess.run([sys.executable, "-m", "continual.learning.job", str(folder / "spec.json")], check=True)
    return TrainedModel.load(folder / "trained")


def build_all(
    model: TrainedModel, reference: TorchClassifier, calibration: Sequence[str], work: Path, threads: int
) -> list[Candidate]:
    """Every engine and precision that this CPU computes in hardware, and the portable graph as the baseline."""
    graph = export_onnx(model, work / "portable.onnx", module=reference.module)
    rows = reference.tokenizer.encode(calibration)
    kinds = [(EngineKind.ONNXRUNTIME, Precision.FP32), (EngineKind.ONNXRUNTIME, Precision.INT8)]
    kinds += [(EngineKind.OPENVINO, Precision.FP32), (EngineKind.OPENVINO, Precision.INT8)]
    if Precision.BF16 in hardware_precisions():
        kinds.append((EngineKind.OPENVINO, Precision.BF16))
    started = time.perf_counter()
    plain = OnnxEngine(graph.path, threads=threads)
    baseline = Candidate(
        name=BASELINE, precision=Precision.FP32, engine=plain, file=graph.path, build_s=graph.seconds,
        load_s=time.perf_counter() - started, weight_swap_s=None, swap_scope="", size_mb=_size_mb(graph.path),
    )  # fmt: skip
    return [baseline, *(_candidate(model, graph, kind, precision, rows, work, threads) for kind, precision in kinds)]


def _candidate(
    model: TrainedModel, graph: OnnxGraph, kind: EngineKind, precision: Precision,
    rows: Sequence[Sequence[int]], work: Path, threads: int,
) -> Candidate:  # fmt: skip
    folder = work / f"{kind.value}-{precision.value}"
    folder.mkdir()
    built = build_engine(kind, precision, graph.path, folder, rows)
    swap_s, scope = _swap(model, graph, folder, built.file, kind, precision)
    started = time.perf_counter()
    engine: Engine
    if kind is EngineKind.ONNXRUNTIME:
        engine = OnnxEngine(folder / built.file, threads=threads)
    else:
        setting = built.options["inference_precision"]
        engine = OpenVinoEngine(folder / built.file, threads=threads, precision=setting)
    return Candidate(
        name=kind.value, precision=precision, engine=engine, file=folder / built.file,
        build_s=graph.seconds + built.seconds, load_s=time.perf_counter() - started,
        weight_swap_s=swap_s, swap_scope=scope, size_mb=_size_mb(folder / built.file),
    )  # fmt: skip


def _swap(
    model: TrainedModel, graph: OnnxGraph, folder: Path, file: str, kind: EngineKind, precision: Precision
) -> tuple[float, str]:
    """Seconds to put a model's weights into this engine: all of them in FP32, the head's in INT8."""
    every = precision is not Precision.INT8
    manifest = Manifest(
        model="bench", version=1, engine=kind, precision=precision, engine_file=file, classes=len(model.labels),
        dimension=model.dimension, max_length=model.max_length, labels_sha256="", tokenizer_sha256="",
        encoder_fingerprint=model.encoder_fingerprint, graph_fingerprint=graph.fingerprint, created_at="",
        toolchain={}, lineage=Lineage(),
    )  # fmt: skip
    target = folder / "swapped"
    target.mkdir()
    newer = replace(model, encoder_fingerprint="another") if every else model
    return swap_weights(folder, manifest, newer, target).seconds, "every weight" if every else "head"


def _size_mb(file: Path) -> float:
    return sum(part.stat().st_size for part in file.parent.glob(f"{file.stem}.*")) / 2**20
