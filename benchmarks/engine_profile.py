"""What limits the engines: time by operator, the arithmetic ceiling of this machine, and whether the gate has teeth."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from perennial.continual.arrays import pad
from perennial.exporters.bundle import Precision
from perennial.exporters.graph import set_initializer
from perennial.exporters.openvino_toolkit import import_openvino
from perennial.exporters.parity import check_parity, default_limits
from perennial.exporters.runtime import OnnxEngine
from perennial.exporters.text_classification.answering import TextAnswerer
from perennial.exporters.text_classification.reference import TorchClassifier
from perennial.exporters.text_classification.signature import ATTENTION_MASK, INPUT_IDS

__all__ = ["broken_engines", "ceiling", "profile_onnxruntime", "profile_openvino"]


def profile_openvino(file: Path, rows: Sequence[Sequence[int]], precision: str = "f32") -> dict[str, Any]:
    """Share of time by layer type on one batch of `rows` and one thread, and the kernels the matrix products got."""
    openvino = import_openvino()

    settings = {"PERF_COUNT": True, "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(str(file), "CPU", settings)
    request = compiled.create_infer_request()
    ids, mask = pad(rows)
    times: Counter[str] = Counter()
    kernels: Counter[str] = Counter()
    for _ in range(10):
        request.infer({INPUT_IDS: ids, ATTENTION_MASK: mask})
        for item in request.profiling_info:
            micros = item.real_time.total_seconds() * 1e6
            times[item.node_type] += micros
            if item.node_type in {"FullyConnected", "MatMul"}:
                kernels[item.exec_type] += micros
    nodes = Counter(str(node.get_rt_info()["layerType"].astype(str)) for node in compiled.get_runtime_model().get_ops())
    return _shares(times, list(ids.shape)) | {
        "product_kernels": {name: round(value / sum(times.values()), 4) for name, value in kernels.most_common(4)},
        "operators": dict(nodes.most_common(12)),
    }


def profile_onnxruntime(file: Path, rows: Sequence[Sequence[int]], work: Path) -> dict[str, Any]:
    """Share of time by operator on one batch of `rows` and one thread, and the operators left after its fusions."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(work / "profile")
    options.optimized_model_filepath = str(work / "optimised.onnx")
    session = onnxruntime.InferenceSession(
        str(file), options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
    )
    ids, mask = pad(rows)
    for _ in range(10):
        session.run(None, {INPUT_IDS: ids, ATTENTION_MASK: mask})
    events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    times: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"]] += event["dur"]
    kept = Counter(node.op_type for node in onnx.load(work / "optimised.onnx").graph.node)
    return _shares(times, list(ids.shape)) | {"operators": dict(kept.most_common(12))}


def _shares(times: Mapping[str, float], batch: list[int]) -> dict[str, Any]:
    total = sum(times.values())
    shares = {name: round(value / total, 4) for name, value in Counter(times).most_common(8)}
    return {"batch": batch, "share_by_operator": shares}


def ceiling(
    rows: Sequence[Sequence[int]], dimension: int, inner: int, layers: int, head_flop: int, threads: int
) -> dict[str, float]:
    """Operations of an average row, the machine's measured rates on this model's widest product, and rows/s at those.

    The FP32 rate is torch's, the INT8 rate ONNX Runtime's, each the best of 30 on (512, d) x (d, inner): what tuned
    libraries reach here, no data sheet.
    """
    import torch

    lengths = np.array([len(row) for row in rows], dtype=np.float64)
    per_token = 2 * (4 * dimension**2 + 2 * dimension * inner) * layers
    attention = 4 * dimension * layers * (lengths**2).mean()
    work = lengths.mean() * per_token + attention + head_flop
    generator = np.random.default_rng(0)
    left = generator.random((512, dimension), dtype=np.float32)
    right = generator.random((dimension, inner), dtype=np.float32)
    one, other = torch.from_numpy(left), torch.from_numpy(right)
    narrow = _int8_product(right, threads)
    operations = 2 * 512 * dimension * inner
    fp32 = operations / min(_timed(lambda: one @ other) for _ in range(30))
    int8 = operations / min(_timed(lambda: narrow(left)) for _ in range(30))
    return {
        "tokens_per_row": float(lengths.mean()),
        "mflop_per_row": work / 1e6,
        "fp32_gflops": fp32 / 1e9,
        "int8_gops": int8 / 1e9,
        "fp32_ceiling_rows_per_s": fp32 / work,
        "int8_ceiling_rows_per_s": int8 / work,
    }


def _int8_product(weight: npt.NDArray[np.float32], threads: int) -> Callable[[npt.NDArray[np.float32]], object]:
    """One dynamically quantised product with `weight` in ONNX Runtime."""
    import onnxruntime
    from onnx import helper

    scale = np.abs(weight).max(axis=0) / 64
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s"], ["y"], domain="com.microsoft")
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["a", "b"]) for name in "xy"]
    tensors = [
        numpy_helper.from_array(np.rint(weight / scale).astype(np.int8), "w"),
        numpy_helper.from_array(scale, "s"),
    ]
    graph = helper.make_graph([node], "product", values[:1], values[1:], tensors)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})


def broken_engines(
    reference: TorchClassifier, portable: Path, texts: Sequence[str], labels: Sequence[str], threads: int
) -> list[dict[str, Any]]:
    """Each kind of broken engine under the limits of each precision: was it refused, and by which rules."""
    found = []
    for name, breaks in _BREAKS.items():
        model = onnx.load(portable)
        breaks(model)
        engine = OnnxEngine(_saved(model, portable.parent / "broken.onnx"), threads=threads)
        answerer = TextAnswerer(engine=engine, tokenizer=reference.tokenizer, labels=reference.labels)
        for precision in (Precision.FP32, Precision.BF16, Precision.INT8):
            verdict = check_parity(reference, answerer, texts, labels, default_limits(precision))
            record = {"broken": name, "limits": precision.value, "refused": not verdict.accepted}
            found.append(record | {"agreement": verdict.agreement, "reasons": list(verdict.reasons)})
    return found


def _saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save_model(model, path)
    return path


def _values(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def _scale_a_weight(model: onnx.ModelProto) -> None:
    name = next(item.name for item in model.graph.initializer if "layer.3.output.dense.weight" in item.name)
    set_initializer(model, name, _values(model)[name] * 1.5)


def _permute_logits(model: onnx.ModelProto) -> None:
    values = _values(model)
    for name in ("head.weight", "head.bias"):
        set_initializer(model, name, np.roll(values[name], 1, axis=0))


def _drop_mask(model: onnx.ModelProto) -> None:
    """Attention sees the padding: the comparison that makes its mask reads ones."""
    compare = next(node for node in model.graph.node if node.op_type == "Greater")
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers.get(compare.input[0])
    while node is not None and ATTENTION_MASK not in node.input:
        node = makers.get(node.input[0])
    target = compare if node is None else node
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, np.int64), "one"))
    model.graph.node.insert(0, onnx.helper.make_node("Clip", [ATTENTION_MASK, "one", "one"], ["all.ones"]))
    if list(target.input).count(ATTENTION_MASK) == 0:
        raise RuntimeError("the attention mask was not found in the graph; the break must be written anew")
    target.input[list(target.input).index(ATTENTION_MASK)] = "all.ones"


def _zero_a_layer(model: onnx.ModelProto) -> None:
    for name, value in _values(model).items():
        if "encoder.layer.2." in name and value.ndim == 2:
            set_initializer(model, name, np.zeros_like(value))


_BREAKS: dict[str, Callable[[onnx.ModelProto], None]] = {
    "one weight scaled by 1.5": _scale_a_weight,
    "labels permuted": _permute_logits,
    "padding mask dropped": _drop_mask,
    "one layer zeroed": _zero_a_layer,
}


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
