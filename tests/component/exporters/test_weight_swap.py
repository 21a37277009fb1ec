"""New weights in an old engine answer exactly like a full rebuild, and whatever does not fit is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from continual.errors import ExportFailed
from exporters.bundle import EngineKind, verify_bundle
from exporters.classifier import BundleClassifier
from exporters.spec import ExportPath, ExportResult
from exporters.trained import TrainedModel
from exporters.weight_swap import swap_weights
from tests.component.exporters.conftest import CPU_ENGINES, TEXTS, export, write_encoder, write_trained

pytestmark = pytest.mark.component

ENGINES = pytest.mark.parametrize("engine", CPU_ENGINES, ids=lambda kind: kind.value)


@pytest.fixture(scope="session")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every weight is new, and so is the number of classes."""
    folder = tmp_path_factory.mktemp("retrained")
    write_encoder(folder / "encoder", seed=7)
    return write_trained(folder / "b", folder / "encoder", classes=8, seed=4, fingerprint="enc-7")


def test_swap_of_every_weight_equals_a_rebuild(built: ExportResult, retrained: Path, tmp_path: Path) -> None:
    swapped = export(tmp_path / "swap", retrained, built.engine, version=2, previous=built.bundle)
    rebuilt = export(tmp_path / "full", retrained, built.engine, version=2)
    assert (swapped.path, rebuilt.path) == (ExportPath.WEIGHT_SWAP, ExportPath.FULL)
    assert swapped.fallback_reason is None
    one, other = (BundleClassifier.load(result.bundle, threads=1).predict(TEXTS) for result in (swapped, rebuilt))
    assert one.logits.shape == (len(TEXTS), 8)
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-6)
    np.testing.assert_allclose(one.embeddings, other.embeddings, atol=1e-6)
    assert one.labels == other.labels
    manifests = [verify_bundle(result.bundle) for result in (swapped, rebuilt)]
    assert manifests[0].graph_fingerprint == manifests[1].graph_fingerprint
    assert manifests[0].classes == 8
    assert "onnx" not in swapped.seconds


def test_swap_is_at_least_ten_times_faster(built: ExportResult, retrained: Path, tmp_path: Path) -> None:
    swapped = export(tmp_path, retrained, built.engine, version=2, previous=built.bundle)
    full = built.seconds["onnx"] + built.seconds["build"]
    assert swapped.seconds["weight_swap"] * 10 < full


def test_swapped_bundle_can_be_swapped_again(
    built: ExportResult, retrained: Path, trained: TrainedModel, tmp_path: Path
) -> None:
    second = export(tmp_path, retrained, built.engine, version=2, previous=built.bundle)
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


def test_swap_that_does_not_fit_falls_back_to_a_full_build(built: ExportResult, encoder: Path, tmp_path: Path) -> None:
    linear = write_trained(tmp_path / "linear", encoder, kind="linear")
    result = export(tmp_path / "out", linear, built.engine, version=2, previous=built.bundle)
    assert result.path is ExportPath.FULL
    assert result.fallback_reason is not None
    assert "head.omega" in result.fallback_reason


@ENGINES
def test_int8_engine_takes_a_new_head_but_not_a_new_encoder(
    engine: EngineKind, trained: TrainedModel, encoder: Path, retrained: Path, tmp_path: Path
) -> None:
    loose = {"agreement": 0.5, "max_abs_logit": 50.0, "mean_abs_logit": 5.0, "invariance": 50.0, "accuracy_drop": 1.0}
    first = export(tmp_path / "a", trained.folder, engine, precision="int8", limits=loose)
    head = write_trained(tmp_path / "head", encoder, classes=7, seed=3)
    second = export(tmp_path / "b", head, engine, precision="int8", version=2, previous=first.bundle, limits=loose)
    assert second.path is ExportPath.WEIGHT_SWAP
    with pytest.raises(ExportFailed, match="export in full"):
        swap_weights(second.bundle, verify_bundle(second.bundle), TrainedModel.load(retrained), tmp_path)
