"""FP16 and BF16 graphs: typed where they should be, the same for every set of weights, and right for padded rows."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from perennial.continual.errors import DependencyUnreachable, ExportFailed
from perennial.exporters.bundle import Precision
from perennial.exporters.tensorrt import Caster, write_typed
from perennial.exporters.tensorrt.precision import fingerprint
from tests.doubles.tensorrt_graph import rows, write_graph

NARROW = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}


def _typed(folder: Path, precision: Precision, *, seed: int = 0) -> onnx.ModelProto:
    source = write_graph(folder / f"{seed}.onnx", seed=seed)
    write_typed(source, folder / "typed.onnx", precision)
    return onnx.load(str(folder / "typed.onnx"))


def _kinds(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    return {**values, **{tensor.name: tensor.data_type for tensor in inferred.initializer}}


@pytest.mark.parametrize("precision", NARROW)
def test_encoder_products_are_narrow_and_the_rest_is_not(tmp_path: Path, precision: Precision) -> None:
    model = _typed(tmp_path, precision)
    kinds = _kinds(model)
    producers = {node.name: node for node in model.graph.node}
    for name in ("query", "key", "scores", "mixed", "dense"):
        assert kinds[producers[f"n_{name}"].output[0]] == NARROW[precision]
    for name in ("normed", "attention", "summed", "mean", "embedding", "raw", "logits"):
        assert kinds[producers[f"n_{name}"].output[0]] == TensorProto.FLOAT
    for name in ("encoder.table", "encoder.query", "encoder.dense"):
        assert kinds[name] == NARROW[precision]
    assert kinds["head.weight"] == kinds["head.bias"] == kinds["encoder.norm"] == TensorProto.FLOAT


def test_half_precision_answers_like_full_precision_also_with_padding(tmp_path: Path) -> None:
    source = write_graph(tmp_path / "a.onnx")
    write_typed(source, tmp_path / "typed.onnx", Precision.FP16)
    ids, mask = rows(16, 12)
    full, half = (
        onnxruntime.InferenceSession(str(path)).run(["logits", "embedding"], {"input_ids": ids, "attention_mask": mask})
        for path in (source, tmp_path / "typed.onnx")
    )
    for wanted, got in zip(full, half, strict=True):
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, wanted, atol=5e-3)
        assert not np.array_equal(got, wanted)  # it really computed in half precision


@pytest.mark.parametrize("precision", NARROW)
def test_the_most_negative_number_stays_finite(tmp_path: Path, precision: Precision) -> None:
    model = _typed(tmp_path, precision)
    constants = [node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"]
    lowest = min(float(numpy_helper.to_array(tensor).min()) for tensor in constants if tensor.data_type == 1)
    limit = float(np.array(lowest).astype(helper.tensor_dtype_to_np_dtype(NARROW[precision])))
    assert np.isfinite(limit)
    assert limit < -60000


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.TF32, Precision.FP16, Precision.BF16])
def test_new_weights_give_the_same_graph(tmp_path: Path, precision: Precision) -> None:
    first, second = (fingerprint(_typed(tmp_path, precision, seed=seed)) for seed in (0, 7))
    assert first == second
    grown = write_graph(tmp_path / "grown.onnx", classes=4)
    assert write_typed(grown, tmp_path / "grown-typed.onnx", precision) != first


def test_fp32_graph_is_left_as_it_is(tmp_path: Path) -> None:
    model = _typed(tmp_path, Precision.FP32)
    assert model == onnx.load(str(tmp_path / "0.onnx"))


@pytest.mark.parametrize(
    ("precision", "caster", "calibration"),
    [
        (Precision.FP16, Caster.MODELOPT, None),
        (Precision.INT8, Caster.GRAPH, {"input_ids": np.ones((2, 4), np.int64)}),
        (Precision.FP8, Caster.GRAPH, {"input_ids": np.ones((2, 4), np.int64)}),
    ],
)
def test_without_modelopt_one_sentence_says_so(
    tmp_path: Path, precision: Precision, caster: Caster, calibration: dict[str, np.ndarray] | None
) -> None:
    source = write_graph(tmp_path / "a.onnx")
    with pytest.raises(DependencyUnreachable, match="nvidia-modelopt"):
        write_typed(source, tmp_path / "typed.onnx", precision, caster=caster, calibration=calibration)


def test_int8_without_calibration_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match="calibration"):
        write_typed(write_graph(tmp_path / "a.onnx"), tmp_path / "typed.onnx", Precision.INT8)


def test_a_graph_with_quantisers_is_taken_as_it_is(tmp_path: Path) -> None:
    source = write_graph(tmp_path / "a.onnx")
    model = onnx.load(str(source))
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.int8(0), "zero")]
    )
    pair = [
        helper.make_node("QuantizeLinear", ["embedding", "scale", "zero"], ["quantised"]),
        helper.make_node("DequantizeLinear", ["quantised", "scale", "zero"], ["restored"]),
    ]
    head = next(index for index, node in enumerate(model.graph.node) if node.name == "n_raw")
    model.graph.node[head].input[0] = "restored"
    for node in reversed(pair):
        model.graph.node.insert(head, node)
    onnx.save(model, str(source))
    write_typed(source, tmp_path / "typed.onnx", Precision.INT8)
    assert {node.op_type for node in onnx.load(str(tmp_path / "typed.onnx")).graph.node} >= {"QuantizeLinear"}


def test_a_graph_without_an_embedding_is_refused(tmp_path: Path) -> None:
    source = write_graph(tmp_path / "a.onnx")
    model = onnx.load(str(source))
    del model.graph.output[1]
    onnx.save(model, str(source))
    with pytest.raises(ExportFailed, match="embedding"):
        write_typed(source, tmp_path / "typed.onnx", Precision.FP16)
