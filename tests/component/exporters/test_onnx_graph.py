"""The portable graph: the contract's names and shapes, named weights, torch's answers, fusable attention."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from perennial.exporters.attention import fuse_attention
from perennial.exporters.graph import fingerprint, fold_transposes, read_sources, set_initializer
from perennial.exporters.onnx import OPSET, OnnxGraph
from perennial.exporters.runtime import OnnxEngine
from perennial.exporters.text_classification.signature import TEXT_ENGINE
from perennial.exporters.text_classification.tokens import padded
from perennial.exporters.torch_engine import TorchEngine
from perennial.exporters.trained import TrainedModel

pytestmark = pytest.mark.component


def dims(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_graph_has_the_engine_contract(portable: OnnxGraph) -> None:
    model = onnx.load(portable.path)
    inputs = {item.name: (item.type.tensor_type.elem_type, dims(item)) for item in model.graph.input}
    outputs = {item.name: (item.type.tensor_type.elem_type, dims(item)) for item in model.graph.output}
    integers, floats = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    assert inputs == {
        "input_ids": (integers, ["batch", "sequence"]),
        "attention_mask": (integers, ["batch", "sequence"]),
    }
    assert outputs == {"logits": (floats, ["batch", 6]), "embedding": (floats, ["batch", 32])}
    assert {item.domain: item.version for item in model.opset_import}[""] == OPSET == portable.opset
    onnx.checker.check_model(model, full_check=True)


def test_graph_keeps_every_weight_by_name(portable: OnnxGraph, trained: TrainedModel) -> None:
    model = onnx.load(portable.path)
    sources = read_sources(model)
    parameters = trained.parameters()
    values = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    assert {name for source in sources.values() for name in source.parameters} == set(parameters)
    for name, source in sources.items():
        assert np.array_equal(values[name], source.build(parameters))
    assert {"head.omega", "head.phase", "head.weight", "head.bias"} <= set(values)
    assert max(values[name].size for name in set(values) - set(sources)) <= 4


def test_graph_has_layer_norm_and_gelu_as_single_operators(portable: OnnxGraph) -> None:
    assert (portable.operators["LayerNormalization"], portable.operators["Gelu"]) == (5, 2)
    assert portable.operators["Erf"] == portable.operators["IsNaN"] == 0


@pytest.mark.parametrize(
    "rows", [[[2, 3]], [[2, 9, 3], [2, 8, 7, 6, 5, 4, 3]], [[2, 5 + i % 40, 3] for i in range(33)]]
)
def test_graph_answers_like_torch_in_any_shape(
    portable: OnnxGraph, trained: TrainedModel, rows: Sequence[Sequence[int]]
) -> None:
    wanted, seen = (
        TorchEngine(trained.module(), TEXT_ENGINE).infer(padded(rows)),
        OnnxEngine(portable.path, threads=1).infer(padded(rows)),
    )
    assert list(wanted) == list(seen) == ["logits", "embedding"]
    for name in wanted:
        np.testing.assert_allclose(wanted[name], seen[name], atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(seen["embedding"], axis=1), 1.0, atol=1e-5)


def test_fused_attention_gives_the_same_answers(portable: OnnxGraph, tmp_path: Path) -> None:
    model = onnx.load(portable.path)
    assert fuse_attention(model) == 2
    onnx.save_model(model, tmp_path / "fused.onnx")
    counts = Counter(node.op_type for node in model.graph.node)
    assert (counts["Attention"], counts["Softmax"]) == (2, 0)
    rows = [[2, *range(4, 4 + length), 3] for length in (1, 5, 12)]
    wanted = OnnxEngine(portable.path, threads=1).infer(padded(rows))
    seen = OnnxEngine(tmp_path / "fused.onnx", threads=1).infer(padded(rows))
    np.testing.assert_allclose(seen["logits"], wanted["logits"], atol=5e-5)


def test_fused_graph_still_names_every_weight(portable: OnnxGraph, trained: TrainedModel) -> None:
    model = onnx.load(portable.path)
    fuse_attention(model)
    parameters = trained.parameters()
    values = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    joined = [source for source in read_sources(model).values() if len(source.parameters) == 3]
    assert len(joined) == 4
    for name, source in read_sources(model).items():
        assert np.array_equal(values[name], source.build(parameters))


def test_fusion_leaves_a_shared_softmax_alone(portable: OnnxGraph) -> None:
    model = onnx.load(portable.path)
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    model.graph.node.append(onnx.helper.make_node("Identity", [softmax.output[0]], ["spy"]))
    assert fuse_attention(model) == 1


def test_fingerprint_ignores_weights_but_not_the_feature_count(portable: OnnxGraph) -> None:
    other = onnx.load(portable.path)
    print_before = fingerprint(other)
    set_initializer(other, "head.bias", np.zeros(6, dtype=np.float32))
    assert fingerprint(other) == print_before == portable.fingerprint
    set_initializer(other, "head.omega", np.zeros((32, 50), dtype=np.float32))
    assert fingerprint(other) != print_before


def test_fingerprint_sees_nodes_attributes_and_constants(portable: OnnxGraph) -> None:
    prints = {portable.fingerprint}
    renamed = onnx.load(portable.path)
    next(node for node in renamed.graph.node if node.op_type == "Gelu").op_type = "Relu"
    prints.add(fingerprint(renamed))
    attribute = onnx.load(portable.path)
    norm = next(node for node in attribute.graph.node if node.op_type == "LayerNormalization")
    next(item for item in norm.attribute if item.name == "epsilon").f = 0.5
    prints.add(fingerprint(attribute))
    constant = onnx.load(portable.path)
    known = read_sources(constant)
    scalar = next(item for item in constant.graph.initializer if item.name not in known and item.data_type == 1)
    set_initializer(constant, scalar.name, onnx.numpy_helper.to_array(scalar) + 1)
    prints.add(fingerprint(constant))
    assert len(prints) == 4


def test_transposed_weight_read_by_two_nodes_is_folded_once() -> None:
    weight = onnx.numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")
    nodes = [
        onnx.helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        onnx.helper.make_node("Transpose", ["w"], ["wt2"], perm=[1, 0]),
        onnx.helper.make_node("MatMul", ["x", "wt"], ["a"]),
        onnx.helper.make_node("MatMul", ["x", "wt2"], ["b"]),
    ]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xab"]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    sources = fold_transposes(graph, ["w"])
    assert [item.name for item in graph.initializer] == ["w.T"]
    assert sources["w.T"].transposed
    assert [node.input[1] for node in graph.node] == ["w.T", "w.T"]
