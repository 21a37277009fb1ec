"""New weights in an old graph of three nodes: which weights are touched, and what does not fit is refused."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from perennial.continual.errors import ExportFailed
from perennial.exporters.bundle import EngineKind, Lineage, Manifest, Precision
from perennial.exporters.graph import Source, attach_sources
from perennial.exporters.openvino_toolkit import import_openvino
from perennial.exporters.openvino_weights import convert_placed
from perennial.exporters.runtime import OnnxEngine, OpenVinoEngine
from perennial.exporters.text_classification.part import TextPart
from perennial.exporters.text_classification.tokens import token_inputs
from perennial.exporters.trained import HeadKind, TrainedModel
from perennial.exporters.weight_swap import swap_weights

IDS = np.array([[1, 2, 0], [3, 3, 1]], dtype=np.int64)
MASK = np.ones_like(IDS)
VOCABULARY, WIDTH = 5, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrained(TrainedModel):
    """A trained model whose encoder is two arrays."""

    encoder_weights: Mapping[str, Any]

    def parameters(self, *, encoder: bool = True) -> dict[str, Any]:
        extra: Mapping[str, Any] = self.encoder_weights if encoder else {}
        return {f"head.{name}": value for name, value in self.head.items()} | dict(extra)


def trained(classes: int, seed: int, *, fingerprint: str = "old", **encoder: Any) -> Retrained:
    rng = np.random.default_rng(seed)
    weights = {
        "encoder.table": rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float32),
        "encoder.gain": rng.normal(size=WIDTH).astype(np.float32),
        "encoder.position_ids": np.arange(3.0, dtype=np.float32),
    } | encoder
    head = {"weight": rng.normal(size=(classes, WIDTH)), "bias": rng.normal(size=classes)}
    return Retrained(
        folder=Path("new"),
        encoder=Path("new/encoder"),
        encoder_name="encoder",
        encoder_fingerprint=fingerprint,
        labels=tuple(f"label {index}" for index in range(classes)),
        kind=HeadKind.LINEAR,
        head={name: value.astype(np.float32) for name, value in head.items()},
        max_length=16,
        encoder_weights=weights,
    )


def graph(model: Retrained) -> onnx.ModelProto:
    """Mean of gained token vectors, then a linear head with its weight turned."""
    values = model.parameters()
    constants = {
        "table": values["encoder.table"],
        "gain": values["encoder.gain"],
        "head.T": np.ascontiguousarray(values["head.weight"].T),
        "head.bias": values["head.bias"],
        "one": np.array([1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "two"], ["wide"]),
        helper.make_node("Mul", ["vectors", "wide"], ["masked"]),
        helper.make_node("Mul", ["masked", "gain"], ["gained"]),
        helper.make_node("ReduceSum", ["gained", "one"], ["embedding"], keepdims=0),
        helper.make_node("MatMul", ["embedding", "head.T"], ["scores"]),
        helper.make_node("Add", ["scores", "head.bias"], ["logits"]),
    ]
    constants["two"] = np.array([2], dtype=np.int64)
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
                for name in ("input_ids", "attention_mask")
            ],
            [
                helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(model.labels)]),
                helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", WIDTH]),
            ],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    attach_sources(
        proto,
        {
            "table": Source(parameters=("encoder.table",)),
            "gain": Source(parameters=("encoder.gain",)),
            "head.T": Source(parameters=("head.weight",), transposed=True),
            "head.bias": Source(parameters=("head.bias",)),
        },
    )
    return proto


def manifest(
    engine: EngineKind = EngineKind.ONNXRUNTIME, *, dimension: int = WIDTH, max_length: int = 16, **changes: Any
) -> Manifest:
    values: dict[str, Any] = {
        "model": "tiny", "version": 3, "engine": engine, "precision": Precision.FP32,
        "engine_file": "model.onnx" if engine is EngineKind.ONNXRUNTIME else "model.xml",
        **TextPart(
            classes=3, dimension=dimension, max_length=max_length, labels_sha256="l", tokenizer_sha256="t"
        ).fields(), "encoder_fingerprint": "old", "graph_fingerprint": "g",
        "created_at": "2026-01-01T00:00:00+00:00", "toolchain": {"onnx": "1"}, "lineage": Lineage(),
        "options": {"hint": "LATENCY"},
    }  # fmt: skip
    return Manifest(**values | changes)


OLD = trained(3, seed=1)


@pytest.fixture(scope="module", params=[EngineKind.ONNXRUNTIME, EngineKind.OPENVINO], ids=lambda kind: kind.value)
def engine(request: pytest.FixtureRequest) -> EngineKind:
    kind: EngineKind = request.param
    return kind


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory, engine: EngineKind) -> Path:
    """The old version's engine; no test alters it."""
    folder = tmp_path_factory.mktemp("previous")
    onnx.save_model(graph(OLD), folder / "model.onnx")
    if engine is EngineKind.OPENVINO:
        openvino = import_openvino()

        openvino.save_model(convert_placed(folder / "model.onnx"), str(folder / "model.xml"), compress_to_fp16=False)
    return folder


def answers(folder: Path, engine: EngineKind) -> Any:
    opened = (
        OnnxEngine(folder / "model.onnx", threads=1)
        if engine is EngineKind.ONNXRUNTIME
        else OpenVinoEngine(folder / "model.xml", threads=1)
    )
    return tuple(opened.infer(token_inputs(IDS, MASK)).values())


def wanted(model: Retrained, encoder: Retrained) -> tuple[Any, Any]:
    weights = encoder.encoder_weights
    embedding = (weights["encoder.table"][IDS] * MASK[..., None] * weights["encoder.gain"]).sum(axis=1)
    return embedding @ model.head["weight"].T + model.head["bias"], embedding


@pytest.mark.parametrize(
    ("new", "encoder"),
    [
        pytest.param(trained(3, seed=2), OLD, id="head alone"),
        pytest.param(trained(6, seed=3), OLD, id="more labels"),
        pytest.param(trained(2, seed=4), OLD, id="fewer labels"),
        pytest.param(trained(4, seed=5, fingerprint="new"), None, id="every weight"),
    ],
)
def test_swapped_engine_answers_with_the_new_weights(
    previous: Path, tmp_path: Path, engine: EngineKind, new: Retrained, encoder: Retrained | None
) -> None:
    """With the same encoder its weights stay as they lie, even where the new model would give others."""
    swapped = swap_weights(previous, manifest(engine), new, tmp_path)
    seen = answers(tmp_path, engine)
    for got, expected in zip(seen, wanted(new, encoder or new), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    assert (swapped.engine, swapped.precision, swapped.file) == (engine, Precision.FP32, manifest(engine).engine_file)
    assert (swapped.options, swapped.toolchain) == ({"hint": "LATENCY"}, ("onnx",))
    assert 0 < swapped.seconds < 60
    np.testing.assert_allclose(answers(previous, engine)[0], wanted(OLD, OLD)[0], atol=1e-5)  # the old one is as it was


def test_swapped_graph_says_how_many_labels_it_answers_with(tmp_path: Path) -> None:
    (tmp_path / "4").mkdir()
    onnx.save_model(graph(OLD), tmp_path / "model.onnx")
    swap_weights(tmp_path, manifest(), trained(6, seed=3), tmp_path / "4")
    shapes = {
        output.name: output.type.tensor_type.shape.dim[1].dim_value
        for output in onnx.load(tmp_path / "4" / "model.onnx").graph.output
    }
    assert shapes == {"logits": 6, "embedding": WIDTH}


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (
            trained(3, 2, fingerprint="new", **{"encoder.table": np.ones((VOCABULARY + 1, WIDTH), np.float32)}),
            "has shape",
        ),
        (trained(3, 2, fingerprint="new", **{"encoder.gain": np.ones((WIDTH, 1), np.float32)}), "has shape"),
        (trained(3, 2, fingerprint="new", **{"encoder.extra": np.ones(2, np.float32)}), r"no place .*'encoder.extra'"),
        (replace(trained(3, 2), max_length=32), "max_length 16, the new model 4 and 32"),
        (
            replace(trained(3, 2), head={"weight": np.ones((3, 8), np.float32), "bias": np.ones(3, np.float32)}),
            "dimension 4",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    previous: Path, tmp_path: Path, engine: EngineKind, new: Retrained, reason: str
) -> None:
    with pytest.raises(ExportFailed, match=reason):
        swap_weights(previous, manifest(engine), new, tmp_path)


def test_a_head_of_another_width_than_its_model_says_is_refused(tmp_path: Path) -> None:
    (tmp_path / "4").mkdir()
    onnx.save_model(graph(OLD), tmp_path / "model.onnx")
    wide = replace(trained(3, 2), head={"weight": np.ones((3, 8), np.float32), "bias": np.ones(3, np.float32)})
    with pytest.raises(ExportFailed, match=r"head\.T has shape"):
        swap_weights(tmp_path, manifest(dimension=8), wide, tmp_path / "4")


@pytest.mark.parametrize("kind", [EngineKind.TENSORRT, EngineKind.AOTINDUCTOR])
def test_engines_that_are_swapped_elsewhere_are_refused(tmp_path: Path, kind: EngineKind) -> None:
    with pytest.raises(ExportFailed, match=f"a {kind.value} engine is not swapped here"):
        swap_weights(tmp_path, manifest(engine=kind), trained(3, 2), tmp_path)
