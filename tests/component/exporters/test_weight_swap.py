"""New weights in an old engine answer exactly like a full rebuild, and whatever does not fit is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ExportFailed
from perennial.exporters.batches import run_sorted
from perennial.exporters.build import build_engine
from perennial.exporters.bundle import EngineKind, Precision, read_manifest, verify_bundle, write_manifest
from perennial.exporters.onnx import OnnxGraph, export_onnx
from perennial.exporters.runtime import OnnxEngine, OpenVinoEngine
from perennial.exporters.spec import ExportPath, ExportResult
from perennial.exporters.text_classification.classifier import BundleClassifier
from perennial.exporters.text_classification.signature import TEXT_ENGINE
from perennial.exporters.text_classification.tokens import Floats, padded
from perennial.exporters.timing import BESIDE, MEASURED, MEASURED_ON, NEW, processor_name
from perennial.exporters.trained import TrainedModel
from perennial.exporters.weight_swap import swap_weights
from tests.component.exporters.conftest import TEXTS, export, write_encoder, write_trained

pytestmark = pytest.mark.component

ENGINE_FILES = {EngineKind.ONNXRUNTIME: "model.onnx", EngineKind.OPENVINO: "model.xml"}
ROWS = [[2, *[4 + (11 * i + 5 * j) % 56 for j in range(1 + i % 12)], 3] for i in range(40)]


@pytest.fixture(scope="session")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Every weight is new, and so is the number of classes."""
    folder = tmp_path_factory.mktemp("retrained")
    write_encoder(folder / "encoder", seed=7)
    return TrainedModel.load(
        write_trained(folder / "b", folder / "encoder", classes=8, seed=4, fingerprint="enc-7"),
    )


@pytest.fixture(scope="session")
def exported_anew(tmp_path_factory: pytest.TempPathFactory, retrained: TrainedModel) -> OnnxGraph:
    return export_onnx(retrained, tmp_path_factory.mktemp("anew") / "model.onnx")


def answers(folder: Path, engine: EngineKind) -> tuple[Floats, Floats]:
    file = folder / ENGINE_FILES[engine]
    opened = OnnxEngine(file, threads=1) if engine is EngineKind.ONNXRUNTIME else OpenVinoEngine(file, threads=1)
    found = run_sorted(opened, TEXT_ENGINE, padded(ROWS), 8)
    return found["logits"], found["embedding"]


def test_swap_of_every_weight_equals_a_rebuild(
    built: ExportResult, retrained: TrainedModel, exported_anew: OnnxGraph, tmp_path: Path
) -> None:
    swapped = export(tmp_path / "swap", retrained.folder, built.engine, version=2, previous=built.bundle)
    assert (swapped.path, swapped.fallback_reason) == (ExportPath.WEIGHT_SWAP, None)
    assert "onnx" not in swapped.seconds
    rebuilt = tmp_path / "full"
    rebuilt.mkdir()
    build_engine(built.engine, Precision.FP32, exported_anew.path, rebuilt)
    seen, wanted = answers(swapped.bundle, built.engine), answers(rebuilt, built.engine)
    assert seen[0].shape == (len(ROWS), 8)
    np.testing.assert_allclose(seen[0], wanted[0], atol=1e-6)
    np.testing.assert_allclose(seen[1], wanted[1], atol=1e-6)
    manifest = verify_bundle(swapped.bundle)
    assert (manifest.graph_fingerprint, manifest.part["classes"]) == (exported_anew.fingerprint, 8)


def test_grown_label_set_and_new_weights_keep_the_fingerprint(portable: OnnxGraph, exported_anew: OnnxGraph) -> None:
    assert exported_anew.fingerprint == portable.fingerprint


def test_swap_is_at_least_ten_times_faster(built: ExportResult, retrained: TrainedModel, tmp_path: Path) -> None:
    swapped = export(tmp_path, retrained.folder, built.engine, version=2, previous=built.bundle)
    full = built.seconds["onnx"] + built.seconds["build"]
    assert swapped.seconds["weight_swap"] * 10 < full


def test_swapped_bundle_can_be_swapped_again(
    built: ExportResult, retrained: TrainedModel, trained: TrainedModel, tmp_path: Path
) -> None:
    second = export(tmp_path, retrained.folder, built.engine, version=2, previous=built.bundle)
    third = export(tmp_path, trained.folder, built.engine, version=3, previous=second.bundle)
    assert third.path is ExportPath.WEIGHT_SWAP
    first, last = (BundleClassifier.load(result.bundle, threads=1).predict(TEXTS) for result in (built, third))
    np.testing.assert_allclose(last.logits, first.logits, atol=1e-6)


def test_swap_of_the_head_alone_does_not_read_the_encoder(built: ExportResult, encoder: Path, tmp_path: Path) -> None:
    grown = write_trained(tmp_path / "grown", encoder, classes=11, seed=8)
    (grown / "encoder" / "model.safetensors").unlink()
    model = TrainedModel.load(grown)
    folder = tmp_path / "out"
    folder.mkdir()
    swap_weights(built.bundle, verify_bundle(built.bundle), model, folder)
    assert (folder / verify_bundle(built.bundle).engine_file).stat().st_size > 0


@pytest.mark.parametrize("change", ["linear head", "other length", "other encoder size"])
def test_swap_that_does_not_fit_is_refused(built: ExportResult, encoder: Path, tmp_path: Path, change: str) -> None:
    trained = write_trained(tmp_path / "t", encoder, kind="linear" if change == "linear head" else "kernel_lda")
    record = json.loads((trained / "model.json").read_text("utf-8"))
    if change == "other length":
        record["max_length"] = 12
    if change == "other encoder size":
        record["encoder_fingerprint"] = "enc-small"
        drop_a_layer(trained / "encoder")
    (trained / "model.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(ExportFailed, match="export in full"):
        swap_weights(built.bundle, verify_bundle(built.bundle), TrainedModel.load(trained), tmp_path)


def drop_a_layer(folder: Path) -> None:
    from transformers import BertModel

    model = BertModel.from_pretrained(folder)
    model.encoder.layer = model.encoder.layer[:1]
    model.config.num_hidden_layers = 1
    model.save_pretrained(folder)


@pytest.mark.parametrize("built", [EngineKind.ONNXRUNTIME], indirect=True)
def test_swap_that_does_not_fit_falls_back_to_a_full_build(built: ExportResult, encoder: Path, tmp_path: Path) -> None:
    linear = write_trained(tmp_path / "linear", encoder, kind="linear")
    chosen = {MEASURED: json.dumps({NEW: {"1": 2.0}, BESIDE: {"1": 1.0}}), MEASURED_ON: processor_name()}
    before = Path(shutil.copytree(built.bundle, tmp_path / "before"))
    manifest = read_manifest(before)
    write_manifest(before, replace(manifest, options={**manifest.options, **chosen}))
    result = export(tmp_path / "out", linear, built.engine, version=2, previous=before)
    assert result.path is ExportPath.FULL
    assert result.fallback_reason is not None
    assert "head." in result.fallback_reason
    kept = read_manifest(result.bundle).options
    assert {name: kept[name] for name in chosen} == chosen, "the choice outlives a build"


def test_int8_engine_takes_a_new_head_but_not_a_new_encoder(
    built: ExportResult, portable: OnnxGraph, encoder: Path, retrained: TrainedModel, tmp_path: Path
) -> None:
    engine, first, second = built.engine, tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    made = build_engine(engine, Precision.INT8, portable.path, first, ROWS)
    manifest = replace(
        verify_bundle(built.bundle), engine=engine, precision=Precision.INT8, engine_file=made.file, files={}
    )
    head = TrainedModel.load(write_trained(tmp_path / "head", encoder, classes=7, seed=3))
    swap_weights(first, manifest, head, second)
    before, after = answers(first, engine), answers(second, engine)
    assert np.array_equal(before[1], after[1])
    features = np.sqrt(2 / 48) * np.cos(after[1] @ head.head["omega"] + head.head["phase"])
    np.testing.assert_allclose(after[0], features @ head.head["weight"].T + head.head["bias"], atol=1e-4)
    with pytest.raises(ExportFailed, match="export in full"):
        swap_weights(first, manifest, retrained, second)
