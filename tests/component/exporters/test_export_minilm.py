"""The packaged MiniLM, once through: export, prove, load, and take a grown head without touching the encoder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from perennial.continual.learning.card import FORMAT
from perennial.exporters.bundle import verify_bundle
from perennial.exporters.job import export_bundle
from perennial.exporters.spec import ExportPath, ExportSpec
from perennial.exporters.text_classification.classifier import BundleClassifier

pytestmark = pytest.mark.component

TEXTS = [
    f"{verb} my {thing}" for verb in ("where is", "please cancel", "I lost") for thing in ("card", "PIN", "top up")
]


def write_minilm(folder: Path, classes: int) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(classes)
    head: Mapping[str, Any] = {
        "weight": generator.normal(size=(classes, 384)) * 9,
        "bias": generator.normal(size=classes),
    }
    save_file(
        {name: np.ascontiguousarray(value, np.float32) for name, value in head.items()}, folder / "head.safetensors"
    )
    record = {
        "format": FORMAT, "learner": "linear", "encoder": "packaged:minilm",
        "encoder_fingerprint": "minilm", "labels": [f"c{index}" for index in range(classes)], "head": "linear",
        "temperature": 1.0, "max_length": 64, "metrics": {}, "parent_version": None, "data": {},
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(record), "utf-8")
    return folder


def test_packaged_minilm_is_exported_and_grows_a_class(tmp_path: Path) -> None:
    held_out = tmp_path / "held.json"
    held_out.write_text(json.dumps({"texts": TEXTS}), "utf-8")

    def export(classes: int, version: int, previous: Path | None) -> Any:
        return export_bundle(
            ExportSpec(
                trained_dir=write_minilm(tmp_path / f"trained-{version}", classes),
                out_dir=tmp_path / str(version),
                held_out=held_out,
                model="intent",
                version=version,
                engine="openvino",
                precision="fp32",
                threads=2,
                previous_bundle=previous,
            )
        )

    first = export(5, 1, None)
    assert first.verdict.max_abs_logit < 1e-3
    assert first.verdict.invariance < 1e-3
    second = export(7, 2, first.bundle)
    assert second.path is ExportPath.WEIGHT_SWAP
    assert second.seconds["weight_swap"] * 10 < first.seconds["onnx"] + first.seconds["build"]
    assert verify_bundle(second.bundle).part["classes"] == 7
    one, other = (BundleClassifier.load(result.bundle, threads=2).predict(TEXTS) for result in (first, second))
    assert np.array_equal(one.embeddings, other.embeddings)
    assert other.logits.shape == (len(TEXTS), 7)
    assert not (second.bundle / "encoder").exists()
