"""What the engine benchmark compares: one tuned MiniLM, exported once, compiled by every CPU engine, and swapped."""

import io
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from safetensors.numpy import load_file, save_file

from perennial.continual.learning.card import read_card
from perennial.continual.preparation import read_labelled_file
from perennial.exporters.attention import fuse_attention
from perennial.exporters.batches import run_sorted
from perennial.exporters.build import build_engine, hardware_precisions
from perennial.exporters.built import BuiltEngine
from perennial.exporters.bundle import EngineKind, Lineage, Manifest, Precision
from perennial.exporters.engine import Engine
from perennial.exporters.onnx import OnnxGraph, export_onnx
from perennial.exporters.openvino_toolkit import import_nncf, import_openvino
from perennial.exporters.runtime import OnnxEngine, OpenVinoEngine, open_onnx, open_openvino
from perennial.exporters.text_classification.part import TextPart
from perennial.exporters.text_classification.signature import LOGITS, TEXT_ENGINE
from perennial.exporters.text_classification.tokens import padded
from perennial.exporters.trained import TrainedModel
from perennial.exporters.weight_swap import swap_weights

__all__ = ["BASELINE", "Candidate", "Swap", "build_all", "measure_swaps", "read_split"]

BASELINE = "onnxruntime portable"
Rows = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A loaded engine and what it cost to get it; seconds and megabytes of this machine and moment.

    `kind` is None for what one would build without this product.
    """

    name: str
    precision: Precision
    engine: Engine
    file: Path
    build_s: float
    load_s: float
    size_mb: float
    kind: EngineKind | None = None

    @property
    def title(self) -> str:
        """Engine and precision."""
        return f"{self.name} {self.precision.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """A retrained model put into an engine by swap, beside the full rebuild, and how far their answers differ."""

    scope: str
    seconds: float
    rebuild_s: float
    max_abs_logit_diff: float


def read_split(data: Path, name: str) -> tuple[list[str], list[str]]:
    """Texts and labels of `NAME.csv`."""
    rows = read_labelled_file(data / f"{name}.csv")
    return [row.text for row in rows], [row.label for row in rows]


def build_all(graph: OnnxGraph, calibration: Rows, work: Path, threads: int) -> list[Candidate]:
    """The baseline first: the portable graph in a plain session. Then what stock tools make, then our engines."""
    found = [
        _timed(BASELINE, Precision.FP32, graph.path, graph.seconds, lambda path: OnnxEngine(path, threads=threads)),
        _stock_onnxruntime(graph, work, threads),
        _weight_only_openvino(graph, work, threads),
    ]
    kinds = [(EngineKind.ONNXRUNTIME, Precision.FP32), (EngineKind.ONNXRUNTIME, Precision.INT8)]
    kinds += [(EngineKind.OPENVINO, Precision.FP32), (EngineKind.OPENVINO, Precision.INT8)]
    if Precision.BF16 in hardware_precisions():
        kinds.append((EngineKind.OPENVINO, Precision.BF16))
    for kind, precision in kinds:
        built = _build(kind, precision, graph, calibration, work)
        path = work / f"{kind.value}-{precision.value}" / built.file
        found.append(_timed(kind.value, precision, path, graph.seconds + built.seconds, _opener(built, threads), kind))
    return found


def measure_swaps(
    model: TrainedModel, candidates: Sequence[Candidate], graph: OnnxGraph, calibration: Rows, work: Path
) -> dict[str, Swap]:
    """By title: a model with every weight changed and one class more goes into each engine of ours, by swap and anew.

    INT8 engines take a new head alone, so there the encoder stays and only the head changes and grows.
    """
    every, head = _retrained(model, work / "retrained", encoder=True), _retrained(model, work / "rehead", encoder=False)
    graphs = {False: export_onnx(every, work / "retrained.onnx"), True: export_onnx(head, work / "rehead.onnx")}
    probe = [row for row in calibration[:64] if len(row) > 1]
    swaps = {}
    for item in candidates:
        if item.kind is None:
            continue
        only_head = item.precision is Precision.INT8
        newer = head if only_head else every
        manifest = _manifest(item, model, graph)
        swapped, anew = work / f"{item.kind.value}-{item.precision.value}-swapped", work / f"anew-{item.title}"
        swapped.mkdir()
        built = swap_weights(item.file.parent, manifest, newer, swapped)
        rebuilt = _build(item.kind, item.precision, graphs[only_head], calibration, anew)
        folder = anew / f"{item.kind.value}-{item.precision.value}"
        one, other = (
            run_sorted(_opener(rebuilt, 1)(path / built.file), TEXT_ENGINE, padded(probe), 32)[LOGITS]
            for path in (swapped, folder)
        )
        swaps[item.title] = Swap(
            scope="head, one class more" if only_head else "every weight, one class more",
            seconds=built.seconds,
            rebuild_s=graphs[only_head].seconds + rebuilt.seconds,
            max_abs_logit_diff=float(np.abs(one - other).max()),
        )
    return swaps


def _timed(
    name: str,
    precision: Precision,
    path: Path,
    build_s: float,
    opener: Callable[[Path], Engine],
    kind: EngineKind | None = None,
) -> Candidate:
    started = time.perf_counter()
    engine = opener(path)
    load_s = time.perf_counter() - started
    size = sum(part.stat().st_size for part in path.parent.glob(f"{path.stem}.*")) / 2**20
    return Candidate(
        name=name,
        precision=precision,
        engine=engine,
        file=path,
        build_s=build_s,
        load_s=load_s,
        size_mb=size,
        kind=kind,
    )


def _opener(built: BuiltEngine, threads: int) -> Callable[[Path], Engine]:
    if built.engine is EngineKind.ONNXRUNTIME:
        return lambda path: open_onnx(path, TEXT_ENGINE, threads=threads)
    setting = built.options["inference_precision"]
    return lambda path: open_openvino(path, TEXT_ENGINE, threads=threads, precision=setting)


def _build(kind: EngineKind, precision: Precision, graph: OnnxGraph, calibration: Rows, work: Path) -> BuiltEngine:
    folder = work / f"{kind.value}-{precision.value}"
    folder.mkdir(parents=True)
    return build_engine(kind, precision, graph.path, folder, calibration)


def _stock_onnxruntime(graph: OnnxGraph, work: Path, threads: int) -> Candidate:
    """What ONNX Runtime's own dynamic quantisation makes of the graph with its attention fused."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    started = time.perf_counter()
    folder = work / "stock"
    folder.mkdir()
    model = onnx.load(graph.path)
    fuse_attention(model)
    onnx.save_model(model, folder / "fused.onnx")
    logging.getLogger().setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_dynamic(
            folder / "fused.onnx",
            folder / "model.onnx",
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    seconds = graph.seconds + time.perf_counter() - started
    path = folder / "model.onnx"
    return _timed("onnxruntime stock", Precision.INT8, path, seconds, lambda file: OnnxEngine(file, threads=threads))


def _weight_only_openvino(graph: OnnxGraph, work: Path, threads: int) -> Candidate:
    """Weights in INT8, arithmetic in FP32: a smaller file, no faster product."""
    nncf = import_nncf()
    openvino = import_openvino()

    started = time.perf_counter()
    folder = work / "weight-only"
    folder.mkdir()
    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = openvino.convert_model(str(graph.path))
    with redirect_stdout(io.StringIO()):  # nncf draws progress bars there
        narrow = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    openvino.save_model(narrow, str(folder / "model.xml"))
    seconds = graph.seconds + time.perf_counter() - started
    path = folder / "model.xml"
    return _timed(
        "openvino weight-only", Precision.INT8, path, seconds, lambda file: OpenVinoEngine(file, threads=threads)
    )


def _retrained(model: TrainedModel, folder: Path, *, encoder: bool) -> TrainedModel:
    """The model as another training would leave it: one class more, a new head and, where asked for, a new encoder."""
    order = np.random.default_rng(1)
    shutil.copytree(model.folder, folder)
    card = replace(read_card(folder), labels=(*model.labels, "one more"))
    head = dict(model.head)
    head["weight"] = np.concatenate([head["weight"] * 1.01, head["weight"][:1]])
    head["bias"] = np.append(head["bias"], np.float32(-1.0)).astype(np.float32)
    save_file({name: np.ascontiguousarray(value) for name, value in head.items()}, folder / "head.safetensors")
    if encoder:
        card = replace(card, encoder_fingerprint="retrained")
        weights: Mapping[str, npt.NDArray[Any]] = load_file(folder / "encoder" / "model.safetensors")
        noisy = {
            name: np.asarray(value + order.normal(scale=1e-3, size=value.shape), dtype=value.dtype)
            if value.dtype == np.float32
            else value
            for name, value in weights.items()
        }
        save_file(noisy, folder / "encoder" / "model.safetensors", metadata={"format": "pt"})
    card.write(folder)
    return TrainedModel.load(folder)


def _manifest(item: Candidate, model: TrainedModel, graph: OnnxGraph) -> Manifest:
    return Manifest(
        model="bench",
        version=1,
        engine=item.kind or EngineKind.ONNXRUNTIME,
        precision=item.precision,
        engine_file=item.file.name,
        **TextPart(
            classes=len(model.labels),
            dimension=model.dimension,
            max_length=model.max_length,
            labels_sha256="",
            tokenizer_sha256="",
        ).fields(),
        encoder_fingerprint=model.encoder_fingerprint,
        graph_fingerprint=graph.fingerprint,
        created_at="",
        toolchain={},
        lineage=Lineage(),
    )
