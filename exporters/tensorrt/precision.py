"""Precision lives in the ONNX: a strongly typed network computes in the types its graph states.

`write_typed` gives FP32, TF32, FP16, BF16, INT8 and FP8 graphs. The FP16 and BF16 conversion is ours by default:
which nodes it narrows depends on the graph alone, so the next version's weights give the same graph and a refit fits.
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perennial.continual.errors import DependencyUnreachable, ExportFailed
from perennial.exporters.bundle import Precision
from perennial.exporters.tensorrt.narrowing import narrow

__all__ = ["Caster", "fingerprint", "write_typed"]

_NARROW = {Precision.FP16, Precision.BF16}
_QUANTISED = {Precision.INT8, Precision.FP8}


class Caster(StrEnum):
    """Who decides what runs in half precision."""

    GRAPH = "graph"  # this package: by operator and place, the same for every set of weights
    MODELOPT = "modelopt"  # nvidia-modelopt's AutoCast: looks at the weights too, so a refit may not fit


def write_typed(
    source: Path,
    target: Path,
    precision: Precision,
    *,
    caster: Caster = Caster.GRAPH,
    calibration: Mapping[str, npt.NDArray[np.int64]] | None = None,
) -> str:
    """Write the FP32 graph `source` in `precision` to `target`, inputs and outputs unchanged; returns its fingerprint.

    `calibration` (INT8 and FP8 only) maps input names to token arrays (rows, S) of real text. A source that already has
    Q/DQ nodes is taken as it is.

    Raises:
        DependencyUnreachable: the conversion needs nvidia-modelopt, which is not installed.
        ExportFailed: the graph cannot be converted.
    """
    import onnx

    if precision in _QUANTISED:
        model = _quantised(source, target, precision, calibration)
    elif precision in _NARROW and caster is Caster.MODELOPT:
        autocast = _modelopt("onnx.autocast")
        kind = "fp16" if precision is Precision.FP16 else "bf16"
        model = autocast.convert_to_mixed_precision(onnx_path=str(source), low_precision_type=kind, keep_io_types=True)
    else:
        model = onnx.load(str(source))
        if precision in _NARROW:
            narrow(model, onnx.TensorProto.FLOAT16 if precision is Precision.FP16 else onnx.TensorProto.BFLOAT16)
    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(target))
    try:
        onnx.checker.check_model(str(target), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as exc:
        raise ExportFailed(f"{source.name} as {precision.value} is not a valid ONNX graph: {exc}") from exc
    return fingerprint(model)


def fingerprint(model: Any) -> str:
    """The graph without its weights, as hex: nodes, attributes, names, shapes and types, but no initialiser's values.

    Small constants inside nodes count as graph, because a refit does not replace them.
    """
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    bare.ClearField("metadata_props")
    bare.ClearField("doc_string")
    for tensor in bare.graph.initializer:
        for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "doc_string"):
            tensor.ClearField(field)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    for node in bare.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def _quantised(
    source: Path, target: Path, precision: Precision, calibration: Mapping[str, npt.NDArray[np.int64]] | None
) -> Any:
    import onnx

    model = onnx.load(str(source))
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return model
    if not calibration:
        raise ExportFailed(
            f"{precision.value} needs calibration texts; give token arrays of real text, 300 rows or more"
        )
    quantization = _modelopt("onnx.quantization")
    target.parent.mkdir(parents=True, exist_ok=True)
    quantization.quantize(
        onnx_path=str(source),
        quantize_mode=precision.value,
        calibration_data=dict(calibration),
        high_precision_dtype="fp16",
        output_path=str(target),
    )
    return onnx.load(str(target))


def _modelopt(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"modelopt.{module}")
    except ImportError as exc:
        raise DependencyUnreachable(
            f"this conversion needs nvidia-modelopt, which cannot be imported here ({exc}); "
            "pip install 'nvidia-modelopt[onnx]', or choose precision fp16 or bf16 with the caster graph"
        ) from exc
