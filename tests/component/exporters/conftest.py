"""A two-layer BERT with random weights and a word tokenizer: every engine is built from it in seconds."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from perennial.continual.learning.card import FORMAT
from perennial.exporters.bundle import EngineKind
from perennial.exporters.job import export_bundle
from perennial.exporters.onnx import OnnxGraph, export_onnx
from perennial.exporters.spec import ExportResult, ExportSpec
from perennial.exporters.trained import TrainedModel

WORDS = [f"w{index}" for index in range(56)]
TEXTS = [" ".join(WORDS[(11 * i + 5 * j) % 56] for j in range(1 + i % 12)) for i in range(64)]
CPU_ENGINES = (EngineKind.ONNXRUNTIME, EngineKind.OPENVINO)


def write_encoder(folder: Path, seed: int = 0) -> None:
    """A Hugging Face folder: BertModel, hidden 32, 2 layers of 2 heads, and its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def write_trained(
    folder: Path,
    encoder: Path,
    *,
    classes: int = 6,
    kind: str = "kernel_lda",
    seed: int = 0,
    fingerprint: str = "enc-0",
    steepness: float = 3.0,
) -> Path:
    """A trained model with a random head over the encoder, which is copied in as a tuned one."""
    folder.mkdir(parents=True)
    shutil.copytree(encoder, folder / "encoder")
    generator = np.random.default_rng(seed)
    kernel = kind in {"kernel_lda", "ridge"}
    width = 48 if kernel else 32
    head: dict[str, Any] = {"weight": generator.normal(size=(classes, width)), "bias": generator.normal(size=classes)}
    if kernel:
        fixed = np.random.default_rng(99)  # the features are drawn once per model and kept by every update
        head |= {"omega": fixed.normal(size=(32, width)), "phase": fixed.uniform(0, 6.28, size=width)}
        head["weight"] = head["weight"] * steepness
        for name in ("statistics", "others"):
            save_file({"counts": np.arange(classes, dtype=np.float64)}, folder / f"{name}.safetensors")
    if kind in {"ridge", "fused"}:
        head["lexical"] = 3.0 * generator.normal(size=(classes, 64))
    save_file(
        {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in head.items()},
        folder / "head.safetensors",
    )
    record = {
        "format": FORMAT, "learner": kind, "encoder": "encoder", "encoder_fingerprint": fingerprint,
        "labels": [f"label {index}" for index in range(classes)], "head": kind, "temperature": 1.0, "max_length": 16,
        "metrics": {}, "parent_version": None, "data": {"rows": 10, "replay_rows": 2, "classes": classes},
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(record), "utf-8")
    return folder


def write_texts(path: Path, labels: Sequence[str] | None = None) -> Path:
    """The held-out file of the tests."""
    record: dict[str, Any] = {"texts": TEXTS} | ({"labels": list(labels)} if labels else {})
    path.write_text(json.dumps(record), "utf-8")
    return path


def export(
    folder: Path, trained: Path, engine: EngineKind, *, precision: str = "fp32", version: int = 1,
    previous: Path | None = None, limits: Mapping[str, float] | None = None,
    embeddings: Path | None = None, held_out: Path | None = None,
) -> ExportResult:  # fmt: skip
    """One export into `folder`/`version` with the tests' held-out texts, or others."""
    folder.mkdir(parents=True, exist_ok=True)
    held_out = held_out or write_texts(folder / "held.json")
    spec = ExportSpec(
        trained_dir=trained, out_dir=folder / str(version), held_out=held_out, model="tiny",
        version=version, engine=engine.value, precision=precision, previous_bundle=previous, threads=2,
        limits=limits or {}, embeddings=embeddings,
    )  # fmt: skip
    return export_bundle(spec)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    write_encoder(folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> TrainedModel:
    return TrainedModel.load(write_trained(tmp_path_factory.mktemp("trained") / "a", encoder))


@pytest.fixture(scope="session")
def portable(tmp_path_factory: pytest.TempPathFactory, trained: TrainedModel) -> OnnxGraph:
    return export_onnx(trained, tmp_path_factory.mktemp("portable") / "model.onnx")


@pytest.fixture(scope="session")
def finished() -> dict[EngineKind, ExportResult]:
    """Bundles by engine, each built once in a run."""
    return {}


@pytest.fixture(params=CPU_ENGINES, ids=lambda kind: kind.value)
def built(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    trained: TrainedModel,
    finished: dict[EngineKind, ExportResult],
) -> ExportResult:
    """A finished FP32 bundle of each CPU engine; never altered by a test."""
    engine: EngineKind = request.param
    if engine not in finished:
        finished[engine] = export(tmp_path_factory.mktemp("bundles"), trained.folder, engine)
    return finished[engine]
