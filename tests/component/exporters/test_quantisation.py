"""INT8 for ONNX Runtime: rounding that beats plain rounding, pairs that cannot saturate, fixed scales."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from perennial.continual.errors import ConfigurationError, ExportFailed
from perennial.exporters.batches import run_sorted
from perennial.exporters.build import build_engine
from perennial.exporters.bundle import EngineKind, Precision
from perennial.exporters.graph import read_sources
from perennial.exporters.onnx import OnnxGraph
from perennial.exporters.quantisation import fit_weights, quantise_products
from perennial.exporters.runtime import OnnxEngine, open_onnx
from perennial.exporters.text_classification.signature import TEXT_ENGINE
from perennial.exporters.text_classification.tokens import TextTokenizer, padded
from perennial.exporters.trained import TrainedModel
from tests.component.exporters.conftest import TEXTS

pytestmark = pytest.mark.component


def rows_of(trained: TrainedModel, folder: Path) -> list[list[int]]:
    trained.write_tokenizer(folder / "tokenizer.json")
    return TextTokenizer(folder / "tokenizer.json").encode(TEXTS)


def inputs(correlated: float) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(0)
    mix = np.eye(48) + correlated * order.normal(size=(48, 48)) / 7
    return order.normal(size=(2000, 48)) @ mix, order.normal(size=(48, 20)) * 0.1


@pytest.mark.parametrize("correlated", [0.0, 1.0])
def test_rounding_keeps_products_closer_than_plain_seven_bits(correlated: float) -> None:
    seen, weight = inputs(correlated)
    fitted, scale = fit_weights(weight, np.cov(seen.T))
    plain_scale = np.abs(weight).max(axis=0) / 64
    plain = np.rint(weight / plain_scale) * plain_scale
    ours, theirs = (np.abs(seen @ (weight - other)).mean() for other in (fitted * scale, plain))
    assert ours < 0.8 * theirs


def test_neighbouring_products_fit_sixteen_bits() -> None:
    seen, weight = inputs(1.0)
    fitted, _ = fit_weights(weight, np.cov(seen.T))
    pairs = fitted.astype(int).reshape(-1, 2, fitted.shape[1])
    worst = 255 * np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1))
    assert worst.max() <= np.iinfo(np.int16).max
    assert np.abs(fitted).max() > 64  # more than seven bits are in use


def test_weights_of_zero_and_dead_inputs_are_no_obstacle() -> None:
    fitted, scale = fit_weights(np.zeros((8, 3)), np.zeros((8, 8)))
    assert np.array_equal(fitted, np.zeros((8, 3), np.int8))
    assert np.isfinite(scale).all()


def test_engine_is_close_to_its_model_and_indifferent_to_its_neighbours(
    portable: OnnxGraph, trained: TrainedModel, tmp_path: Path
) -> None:
    rows = rows_of(trained, tmp_path)
    built = build_engine(EngineKind.ONNXRUNTIME, Precision.INT8, portable.path, tmp_path, rows)
    assert (built.options["fused_attention"], built.options["quantised_products"]) == ("2", "8")
    counts = Counter(node.op_type for node in onnx.load(tmp_path / built.file).graph.node)
    assert (counts["QAttention"], counts["MatMulIntegerToFloat"], counts["Attention"]) == (2, 6, 0)
    engine = open_onnx(tmp_path / built.file, TEXT_ENGINE, threads=2)
    exact = run_sorted(OnnxEngine(portable.path, threads=1), TEXT_ENGINE, padded(rows), 32)["logits"]
    seen, embedding = run_sorted(engine, TEXT_ENGINE, padded(rows), 32).values()
    assert 0 < np.abs(exact - seen).mean() < 0.1 * np.abs(exact).mean()
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1.0, atol=1e-5)
    alone = np.concatenate([engine.infer(padded([row]))["logits"] for row in rows[:12]])
    np.testing.assert_allclose(alone, seen[:12], atol=1e-4)


def test_head_keeps_its_named_weights_and_the_encoder_does_not(
    portable: OnnxGraph, trained: TrainedModel, tmp_path: Path
) -> None:
    built = build_engine(EngineKind.ONNXRUNTIME, Precision.INT8, portable.path, tmp_path, rows_of(trained, tmp_path))
    names = {name for source in read_sources(onnx.load(tmp_path / built.file)).values() for name in source.parameters}
    assert {"head.omega", "head.phase", "head.weight", "head.bias"} <= names
    assert not any(name.endswith("dense.weight") for name in names)


def test_int8_without_calibration_is_refused(portable: OnnxGraph, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="calibration"):
        build_engine(EngineKind.ONNXRUNTIME, Precision.INT8, portable.path, tmp_path)


def test_graph_without_an_encoder_is_refused() -> None:
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy"]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(ExportFailed, match="no product"):
        quantise_products(onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:])), [[1, 2]])
