"""ONNX Runtime engines: FP32 with attention fused, and INT8 fitted to real text."""

import time
from collections.abc import Sequence
from pathlib import Path

import onnx

from perennial.continual.errors import ConfigurationError
from perennial.exporters.attention import fuse_attention
from perennial.exporters.built import BuiltEngine
from perennial.exporters.bundle import EngineKind, Precision
from perennial.exporters.graph import attach_sources, read_sources
from perennial.exporters.quantisation import quantise_products

__all__ = ["build_onnxruntime"]

_FILE = "model.onnx"
_SUBSET = 300  # calibration texts


def build_onnxruntime(
    graph: Path, folder: Path, precision: Precision, calibration: Sequence[Sequence[int]] = ()
) -> BuiltEngine:
    """`folder/model.onnx` out of the portable graph.

    INT8 reads `calibration`, token rows of the model's own domain. It leaves the head in FP32: that is 1% of the work,
    it decides the class, and new weights go into it.

    Raises:
        ConfigurationError: the precision is neither fp32 nor int8, or int8 has no calibration rows.
        ExportFailed: the graph has nothing to quantise.
    """
    started = time.perf_counter()
    if precision not in {Precision.FP32, Precision.INT8}:
        raise ConfigurationError(f"ONNX Runtime on the CPU is built as fp32 or int8, not {precision.value}")
    model = onnx.load(graph)
    options = {"fused_attention": str(fuse_attention(model))}
    if precision is Precision.INT8:
        if not calibration:
            raise ConfigurationError("int8 needs calibration texts from the training split; give some, or use fp32")
        sources = read_sources(model)
        options["quantised_products"] = str(quantise_products(model, calibration[:_SUBSET]))
        left = {item.name for item in model.graph.initializer}
        attach_sources(model, {name: source for name, source in sources.items() if name in left})
    onnx.save_model(model, folder / _FILE)
    return BuiltEngine(
        engine=EngineKind.ONNXRUNTIME,
        precision=precision,
        file=_FILE,
        seconds=time.perf_counter() - started,
        options=options,
        toolchain=("onnx", "onnxruntime", "torch", "transformers", "onnxscript"),
    )
