"""ONNX Runtime engines: FP32 with attention fused, and INT8 weights with activations quantised as they come."""

import logging
import time
import warnings
from pathlib import Path

import onnx
from onnx import helper, numpy_helper

from continual.errors import ConfigurationError, ExportFailed
from exporters.attention import fuse_attention
from exporters.build import BuiltEngine
from exporters.bundle import EngineKind, Precision
from exporters.graph import Source, attach_sources, read_sources

__all__ = ["build_onnxruntime"]

_FILE = "model.onnx"


def build_onnxruntime(graph: Path, folder: Path, precision: Precision) -> BuiltEngine:
    """`folder/model.onnx` out of the portable graph.

    INT8 keeps the head in FP32 (it is 1% of the work and all of the calibration), is per channel, and uses 7 bits for
    weights: without VNNI two 8-bit products can saturate the 16-bit accumulator of AVX2.

    Raises:
        ConfigurationError: the precision is neither fp32 nor int8.
        ExportFailed: the quantiser refuses the graph.
    """
    started = time.perf_counter()
    if precision not in {Precision.FP32, Precision.INT8}:
        raise ConfigurationError(f"ONNX Runtime on the CPU is built as fp32 or int8, not {precision.value}")
    model = onnx.load(graph)
    fused = fuse_attention(model)
    if precision is Precision.INT8:
        model = _quantise(model, folder)
    onnx.save_model(model, folder / _FILE)
    return BuiltEngine(
        engine=EngineKind.ONNXRUNTIME,
        precision=precision,
        file=_FILE,
        seconds=time.perf_counter() - started,
        options={"fused_attention": str(fused)},
        toolchain=("onnx", "onnxruntime", "torch", "transformers", "onnxscript"),
    )


def _split_gemm(model: onnx.ModelProto) -> dict[str, Source]:
    """Turn the head's Gemm into MatMul and Add by our own names; the quantiser would lose them and quantise it."""
    sources, graph = read_sources(model), model.graph
    values = {item.name: item for item in graph.initializer}
    for node in [item for item in graph.node if item.op_type == "Gemm" and item.input[1] in sources]:
        name, turned = node.input[1], f"{node.input[1]}.T"
        graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(values[name]).T.copy(), turned))
        graph.initializer.remove(values[name])
        sources[turned] = Source(parameters=sources.pop(name).parameters, transposed=True)
        product = f"{node.output[0]}.product"
        position = list(graph.node).index(node)
        graph.node.insert(
            position, helper.make_node("Add", [product, node.input[2]], [node.output[0]], name="head.add")
        )
        graph.node.insert(position, helper.make_node("MatMul", [node.input[0], turned], [product], name="head.matmul"))
        graph.node.remove(node)
    return sources


def _quantise(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    sources = _split_gemm(model)
    head = [node.name for node in model.graph.node if any(name.startswith("head.") for name in node.input)]
    plain, quantised = folder / ".fused.onnx", folder / ".quantised.onnx"
    logger = logging.getLogger()
    level = logger.level
    try:
        onnx.save_model(model, plain)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logger.setLevel(logging.ERROR)
            quantize_dynamic(
                plain,
                quantised,
                op_types_to_quantize=["MatMul", "Attention"],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=head,
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
        result = onnx.load(quantised)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as exc:
        raise ExportFailed(f"ONNX Runtime cannot quantise the graph: {exc}; export it as fp32") from exc
    finally:
        logger.setLevel(level)
        plain.unlink(missing_ok=True)
        quantised.unlink(missing_ok=True)
    left = {item.name for item in result.graph.initializer}
    attach_sources(result, {name: source for name, source in sources.items() if name in left})
    return result
