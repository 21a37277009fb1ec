"""OpenVINO engines: FP32 files that run in FP32 or BF16, and INT8 by post-training quantisation on real text."""

import io
import logging
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from continual.errors import ConfigurationError, DependencyUnreachable, ExportFailed
from exporters.build import BuiltEngine
from exporters.bundle import EngineKind, Precision
from exporters.classifier import pad
from exporters.openvino_weights import convert_placed

__all__ = ["build_openvino"]

_FILE = "model.xml"
_SUBSET = 300  # calibration texts; more changed no figure on BANKING77 (docs/engines.md)


def build_openvino(
    graph: Path, folder: Path, precision: Precision, calibration: Sequence[Sequence[int]] = ()
) -> BuiltEngine:
    """`folder/model.xml` and `model.bin` out of the portable graph, weights in FP32 or INT8.

    BF16 is a setting of the runtime, not of the file. INT8 reads `calibration`, token rows of the model's own domain.

    Raises:
        ConfigurationError: the precision is not fp32, bf16 or int8, or int8 has no calibration rows.
        DependencyUnreachable: int8 needs nncf, which is not installed.
        ExportFailed: OpenVINO refuses the graph.
    """
    import openvino

    started = time.perf_counter()
    if precision not in {Precision.FP32, Precision.BF16, Precision.INT8}:
        raise ConfigurationError(f"OpenVINO on the CPU is built as fp32, bf16 or int8, not {precision.value}")
    toolchain: tuple[str, ...] = ("onnx", "openvino", "torch", "transformers", "onnxscript")
    try:
        model = convert_placed(graph)
        if precision is Precision.INT8:
            model = _quantise(model, calibration)
            toolchain = (*toolchain, "nncf")
        openvino.save_model(model, str(folder / _FILE), compress_to_fp16=False)
    except RuntimeError as exc:
        raise ExportFailed(f"OpenVINO cannot compile {graph.name}: {exc}") from exc
    return BuiltEngine(
        engine=EngineKind.OPENVINO,
        precision=precision,
        file=_FILE,
        seconds=time.perf_counter() - started,
        options={"inference_precision": "bf16" if precision is Precision.BF16 else "f32", "hint": "LATENCY"},
        toolchain=toolchain,
    )


def _quantise(model: Any, calibration: Sequence[Sequence[int]]) -> Any:
    if not calibration:
        raise ConfigurationError("int8 needs calibration texts from the training split; give some, or use fp32")
    try:
        import nncf
    except ImportError as exc:
        raise DependencyUnreachable(f"int8 needs nncf ({exc}); install perennial[quantisation] or use fp32") from exc
    rows = [pad([row]) for row in calibration[:_SUBSET]]
    data = nncf.Dataset([{"input_ids": ids, "attention_mask": mask} for ids, mask in rows])
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()):  # nncf draws progress bars on the stream that carries our progress
        return nncf.quantize(
            model,
            data,
            subset_size=len(rows),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=_head_nodes(model), validate=False),
        )


def _head_nodes(model: Any) -> list[str]:
    """Everything after the embedding: the head stays in FP32, it is 1% of the work and decides the class."""
    names: set[str] = set()
    pending = [model.output("logits").get_node()]
    while pending:
        node = pending.pop()
        name = node.get_friendly_name()
        if name in names or node.get_type_name() in {"Constant", "Parameter"}:
            continue
        if any(output.get_names() & {"embedding"} for output in node.outputs()):
            continue
        names.add(name)
        pending.extend(value.get_node() for value in node.input_values())
    return sorted(names)
