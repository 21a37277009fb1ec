"""A very small text classifier as an ONNX file that keeps the engine contract: one attention block, pooling, a head."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOCABULARY, WIDTH = 50, 8


def write_graph(path: Path, *, seed: int = 0, classes: int = 3, activation: str = "Tanh") -> Path:
    """Write the classifier with weights drawn from `seed`; equal arguments but the seed give equal graphs."""
    rng = np.random.default_rng(seed)
    shapes = {
        "encoder.table": (VOCABULARY, WIDTH),
        "encoder.query": (WIDTH, WIDTH),
        "encoder.key": (WIDTH, WIDTH),
        "encoder.dense": (WIDTH, WIDTH),
        "encoder.norm": (WIDTH,),
        "head.weight": (WIDTH, classes),
        "head.bias": (classes,),
    }
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.5, shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    numbers = {"one": 1.0, "lowest": float(np.finfo(np.float32).min), "tiny": 1e-9}
    constants = [
        helper.make_node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.FLOAT, [], [number]))
        for name, number in numbers.items()
    ]
    axes = {"last": [2], "middle": [1]}
    constants += [
        helper.make_node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.INT64, [1], value))
        for name, value in axes.items()
    ]
    graph = helper.make_graph(
        constants + _nodes(activation),
        "classifier",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask")
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", WIDTH]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def _nodes(activation: str) -> list[onnx.NodeProto]:
    steps = [
        ("Gather", "encoder.table input_ids", "embedded", {}),
        ("LayerNormalization", "embedded encoder.norm", "normed", {"axis": -1}),
        ("Cast", "attention_mask", "mask", {"to": TensorProto.FLOAT}),
        ("Sub", "one mask", "hidden_places", {}),
        ("Mul", "hidden_places lowest", "bias_rows", {}),
        ("Unsqueeze", "bias_rows middle", "bias", {}),
        ("MatMul", "normed encoder.query", "query", {}),
        ("MatMul", "normed encoder.key", "key", {}),
        ("Transpose", "key", "key_t", {"perm": [0, 2, 1]}),
        ("MatMul", "query key_t", "scores", {}),
        ("Add", "scores bias", "masked", {}),
        ("Softmax", "masked", "attention", {"axis": -1}),
        ("MatMul", "attention normed", "mixed", {}),
        ("MatMul", "mixed encoder.dense", "dense", {}),
        (activation, "dense", "active", {}),
        ("Add", "active normed", "hidden", {}),
        ("Unsqueeze", "mask last", "mask_column", {}),
        ("Mul", "hidden mask_column", "kept", {}),
        ("ReduceSum", "kept middle", "summed", {"keepdims": 0}),
        ("ReduceSum", "mask_column middle", "length", {"keepdims": 0}),
        ("Max", "length tiny", "safe_length", {}),
        ("Div", "summed safe_length", "mean", {}),
        ("LpNormalization", "mean", "embedding", {"axis": -1, "p": 2}),
        ("MatMul", "embedding head.weight", "raw", {}),
        ("Add", "raw head.bias", "logits", {}),
    ]
    return [
        helper.make_node(kind, inputs.split(), [output], name=f"n_{output}", **attributes)
        for kind, inputs, output, attributes in steps
    ]


def rows(count: int, sequence: int, *, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Token rows and masks (count, sequence), padded to different lengths."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, VOCABULARY, (count, sequence))
    mask = (np.arange(sequence)[None, :] < rng.integers(1, sequence + 1, (count, 1))).astype(np.int64)
    return ids * mask, mask
