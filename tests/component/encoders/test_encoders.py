"""Each architecture of text encoder, from fine-tuning to an engine that answers like it."""

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from perennial.continual.arrays import pad
from perennial.continual.learning.card import ENCODER_INSIDE
from perennial.continual.learning.context import Context
from perennial.continual.learning.encoder import Encoder, usable_length
from perennial.continual.learning.encoder_folder import read_facts
from perennial.continual.learning.encoder_model import load_encoder, measure, position_limit
from perennial.continual.learning.learners import train_model
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.records import Example
from perennial.exporters.aotinductor import build_package, load_package
from perennial.exporters.build import build_engine
from perennial.exporters.bundle import EngineKind, Precision
from perennial.exporters.job import export_bundle
from perennial.exporters.onnx import OnnxGraph, export_onnx
from perennial.exporters.runtime import OnnxEngine, OpenVinoEngine
from perennial.exporters.spec import ExportPath, ExportSpec
from perennial.exporters.tensorrt import BuildOptions, Profile, Refit, machine_without_gpu, write_typed
from perennial.exporters.tensorrt.builder import build_serialised
from perennial.exporters.text_classification.tokens import FromTokens, padded
from perennial.exporters.trained import TrainedModel
from tests.component.encoders.tiny import ENCODERS, TEXTS, write_encoder
from tests.component.real_rtx import spoken_rtx

pytestmark = [pytest.mark.component, pytest.mark.slow, pytest.mark.timeout(900)]

LABELS = ("card", "loan", "trip", "fee", "receipt", "code")
ROWS = [
    Example(text=text, label=LABELS[place // 4 % len(LABELS)], at=datetime(2026, 1, 1, tzinfo=UTC))
    for place, text in enumerate(text.strip() for text in TEXTS)
]
IN_FULL = {"t5"}  # its token table has two names, and the graph knows one of them
WANTED = 64  # tokens; more than any position table here
LONG = " ".join(text.strip() for text in TEXTS)
ASKED = [*(row.text for row in ROWS[::7]), LONG, ""]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One architecture: its folder, the model that was trained on it, and that model's module and graph."""

    name: str
    folder: Path
    trained: TrainedModel
    module: Any
    graph: OnnxGraph

    def rows(self) -> list[list[int]]:
        """What is asked: texts, one beyond the limit, an empty one, and ids at the end of the tokenizer's list."""
        encoder = Encoder.load(str(self.folder), max_length=WANTED)
        tokens = [list(found.ids) for found in encoder.tokenizer.encode_batch(ASKED)]
        last = encoder.tokenizer.get_vocab_size() - 1
        return [*tokens, [last, last - 1, last, last]]

    def expected(self) -> tuple[Floats, Floats]:
        """Logits and embeddings of the torch model, each row alone."""
        import torch

        with torch.inference_mode():
            batches = ([torch.from_numpy(part) for part in pad([row], width=1)] for row in self.rows())
            answers = [[part.numpy() for part in self.module(*tensors)] for tensors in batches]
        return np.concatenate([a for a, _ in answers]), np.concatenate([b for _, b in answers])


def train(folder: Path, encoder: Path, *, seed: int = 0) -> Path:
    """Fine-tune on a few rows for two steps, with a linear head."""
    write_rows(folder / "rows.jsonl", ROWS[::3])
    spec = JobSpec(
        learner=LearnerName.FINETUNE,
        examples=folder / "rows.jsonl",
        out=folder / "trained",
        encoder=str(encoder),
        seed=seed,
        threads=2,
        max_length=WANTED,
        params={"head": "linear", "epochs": 1, "batch": 20, "learning_rate": 1e-3},
    )
    train_model(spec, Context())
    return spec.out


@pytest.fixture(scope="module", params=list(ENCODERS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each architecture once: everything below is asked of it while it is there."""
    import torch

    torch.set_num_threads(2)
    work = tmp_path_factory.mktemp(request.param)
    folder = write_encoder(request.param, work / "given")
    trained = TrainedModel.load(train(work, folder))
    module = trained.module()
    graph = export_onnx(trained, work / "portable.onnx", module=module)
    return Made(name=request.param, folder=folder, trained=trained, module=module, graph=graph)


def test_its_folder_says_what_the_loaded_model_is(made: Made) -> None:
    facts, model = read_facts(made.folder), load_encoder(made.folder)
    assert (facts.dimension, facts.ids) == (model.config.hidden_size, model.get_input_embeddings().num_embeddings)
    assert facts.longest == ENCODERS[made.name].longest
    if facts.longest is not None:
        assert position_limit(model) == facts.longest
        assert measure(made.folder)[1] == facts.longest


def test_texts_are_cut_where_its_positions_end(made: Made) -> None:
    length = usable_length(made.folder, WANTED)
    assert length == (ENCODERS[made.name].longest or WANTED)
    assert made.trained.max_length == length
    assert max(len(row) for row in made.rows()) == length
    assert Encoder.load(str(made.folder), max_length=WANTED).embed([LONG]).shape == (1, 32)


def test_it_answers_as_transformers_does_and_is_pooled_as_its_folder_says(made: Made) -> None:
    import torch

    plain, rows = load_encoder(made.trained.encoder), [row for row in made.rows() if row]
    _, seen = made.expected()
    seen = seen[[bool(row) for row in made.rows()]]
    for row, embedding in zip(rows, seen, strict=True):
        with torch.inference_mode():
            ids = torch.tensor([row])
            hidden = plain(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].numpy()
        by = {"mean": hidden.mean(axis=0), "cls": hidden[0], "lasttoken": hidden[-1]}[ENCODERS[made.name].pooling]
        np.testing.assert_allclose(embedding, by / np.linalg.norm(by), atol=2e-5)


@pytest.mark.parametrize("engine", [EngineKind.ONNXRUNTIME, EngineKind.OPENVINO], ids=lambda kind: kind.value)
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8], ids=lambda kind: kind.value)
def test_an_engine_answers_like_it(made: Made, engine: EngineKind, precision: Precision, tmp_path: Path) -> None:
    rows = made.rows()
    built = build_engine(engine, precision, made.graph.path, tmp_path, rows[:12])
    opened = OnnxEngine if engine is EngineKind.ONNXRUNTIME else OpenVinoEngine
    check(opened(tmp_path / built.file, threads=1), made, precision)


def test_a_compiled_package_answers_like_it(made: Made, tmp_path: Path) -> None:
    build_package(made.module, tmp_path / "model.pt2", device="cpu", max_sequence=made.trained.max_length)
    check(FromTokens(load_package(tmp_path / "model.pt2")), made, Precision.FP32)


def test_tensorrt_for_rtx_builds_a_plan_of_it(made: Made, tmp_path: Path) -> None:
    """By the real builder, which needs no GPU; what a plan answers is seen on one alone."""
    write_typed(made.graph.path, tmp_path / "typed.onnx", Precision.FP16)
    profile = Profile(best_batch=2, best_sequence=8, max_batch=4, max_sequence=made.trained.max_length)
    options = BuildOptions(
        precision=Precision.FP16, profiles=(profile,), refit=Refit.NONE, targets=("8.9",), optimisation_level=1
    )
    with spoken_rtx():
        plan = build_serialised(tmp_path / "typed.onnx", options, machine_without_gpu(), None)
    assert len(plan) > 10_000


def test_a_later_version_takes_its_engine_over(made: Made, tmp_path: Path) -> None:
    """A bundle of it is made, and one of other weights, which go into the engine of the first."""
    held_out = tmp_path / "held.json"
    held_out.write_text(json.dumps({"texts": ASKED}))
    first = _export(made.trained.folder, tmp_path / "1", held_out, 1, None)
    assert first.path is ExportPath.FULL
    assert first.verdict.rows == len(ASKED)
    other = _moved(made.trained.folder, tmp_path / "moved")
    second = _export(other, tmp_path / "2", held_out, 2, first.bundle)
    if made.name in IN_FULL:
        assert second.path is ExportPath.FULL
        assert "export in full" in str(second.fallback_reason)
        return
    assert (second.path, second.fallback_reason) == (ExportPath.WEIGHT_SWAP, None)


def check(engine: Any, made: Made, precision: Precision) -> None:
    """Compare an engine's answers with the torch model's: every row alone, and all of them padded together."""
    rows, (logits, embeddings) = made.rows(), made.expected()
    together = tuple(engine.infer(padded(rows)).values())
    alone = [tuple(engine.infer(padded([row], width=1)).values()) for row in rows]
    for seen in (together, tuple(np.concatenate(part) for part in zip(*alone, strict=True))):
        if precision is Precision.FP32:
            scale = max(1.0, float(np.abs(logits).max()))
            np.testing.assert_allclose(seen[0], logits, atol=1e-4 * scale)
            np.testing.assert_allclose(seen[1], embeddings, atol=1e-4)
            continue
        known_rows = [place for place, row in enumerate(rows[:-1]) if row]  # the last row is made of rare ids
        closeness = (seen[1][known_rows] * embeddings[known_rows]).sum(axis=1)
        assert np.isfinite(seen[0]).all()
        assert np.median(closeness) > 0.98, closeness


def _export(trained: Path, out: Path, held_out: Path, version: int, previous: Path | None) -> Any:
    spec = ExportSpec(
        trained_dir=trained, out_dir=out, held_out=held_out, model="tiny", version=version, engine="onnxruntime",
        precision="fp32", previous_bundle=previous, threads=2,
    )  # fmt: skip
    return export_bundle(spec)


def _moved(source: Path, target: Path) -> Path:
    """The same model with every weight of its encoder a little elsewhere, under a fingerprint of its own."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(source, target)
    path = target / ENCODER_INSIDE / "model.safetensors"
    rng = np.random.default_rng(5)
    tensors = {
        name: value + 0.01 * rng.standard_normal(value.shape).astype("f4") for name, value in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
    card = json.loads((target / "model.json").read_text())
    (target / "model.json").write_text(json.dumps(card | {"encoder_fingerprint": "sha256:moved"}))
    return target
