"""Image classifiers as engines of OpenVINO, and a head that grows in a graph that stays.

Those of ONNX Runtime are held by `tests/contract/test_exportables.py`.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DataError, ExportFailed
from perennial.continual.images import ImageStore
from perennial.exporters.bundle import read_manifest
from perennial.exporters.image_classification.export import ImageExportable
from perennial.exporters.job import export_bundle
from perennial.exporters.runtime import load_engine
from perennial.exporters.spec import ExportPath, ExportResult, ExportSpec
from tests.component.exporters.conftest import write_trained
from tests.component.image_fixtures import write_image_encoder, write_names

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("images")
    write_image_encoder(made / "encoder", "convnext")
    write_names(made / "held.json", ImageStore(made / "images"), each=6)
    for version, classes in ((1, 6), (2, 8)):
        write_trained(made / f"trained-{version}", made / "encoder", seed=version, classes=classes)
    return made


def _spec(folder: Path, version: int, previous: Path | None = None) -> ExportSpec:
    return ExportSpec(
        task="image_classification",
        trained_dir=folder / f"trained-{version}",
        out_dir=folder / str(version),
        held_out=folder / "held.json",
        memory=folder / "images",
        model="tiny",
        version=version,
        engine="openvino",
        precision="fp32",
        threads=1,
        previous_bundle=previous,
    )


@pytest.fixture(scope="module")
def first(folder: Path) -> ExportResult:
    return export_bundle(_spec(folder, 1))


def test_more_classes_go_into_the_same_engine(folder: Path, first: ExportResult) -> None:
    second = export_bundle(_spec(folder, 2, first.bundle))
    assert (first.path, second.path) == (ExportPath.FULL, ExportPath.WEIGHT_SWAP)
    assert first.verdict.accepted
    assert second.verdict.accepted
    pixels = {"pixels": np.random.default_rng(1).integers(256, size=(5, 32, 32, 3), dtype=np.uint8)}
    one, other = (load_engine(each.bundle, threads=1).infer(pixels) for each in (first, second))
    assert (one["logits"].shape, other["logits"].shape) == ((5, 6), (5, 8))
    np.testing.assert_allclose(one["embedding"], other["embedding"], atol=1e-5)


def test_what_does_not_fit_is_refused(folder: Path, first: ExportResult) -> None:
    model = ImageExportable.load(folder / "trained-1")
    with pytest.raises(DataError, match="no folder of them is given"):
        model.read(folder / "held.json")
    with pytest.raises(DataError, match="has none of the 18 images"):
        model.read(folder / "held.json", folder / "nothing")
    with pytest.raises(ConfigurationError, match="it comes as onnxruntime fp32, openvino fp32, openvino bf16"):
        export_bundle(replace(_spec(folder, 1), precision="int8", out_dir=folder / "refused"))
    other = replace(read_manifest(first.bundle), encoder_fingerprint="another")
    with pytest.raises(ExportFailed, match="stands on another encoder of images"):
        model.swap(first.bundle, other, folder)
