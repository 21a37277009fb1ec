"""A version as a folder: the real transformers, without this product, loads it and answers as the version does."""

import json
import os
import subprocess
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from perennial.continual.arrays import softmax
from perennial.continual.errors import BundleRejected, ConfigurationError, ExportFailed, NotFound
from perennial.continual.learning.adoption import Adoptable
from perennial.continual.learning.calibration import Link
from perennial.continual.learning.card import CLEANING, ModelCard, read_card
from perennial.continual.learning.encoder import fingerprint
from perennial.continual.learning.lexical import LexicalFeatures, WordScores
from perennial.continual.learning.trained import HEAD_FILE
from perennial.continual.preparation import clean, fold_width
from perennial.exporters.bundle import EngineKind
from perennial.exporters.hugging_face import write_folder
from perennial.exporters.hugging_face.given import perennial_parts
from perennial.exporters.hugging_face.own_source import source_without_imports
from perennial.exporters.text_classification.tokens import TextTokenizer, padded
from perennial.exporters.trained import TrainedModel
from perennial.ops.commands.hugging_face_folder import save_version
from perennial.ops.ledger import Ledger, VersionRow, version_card
from perennial.ops.parts import Parts
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.settings import ModelSettings, Settings
from perennial.ops.store.workspace import Workspace
from tests.component.encoders.tiny import TEXTS, write_classifier, write_encoder
from tests.component.exporters.conftest import export
from tests.component.strange_texts import TEXTS as STRANGE

pytestmark = [pytest.mark.component, pytest.mark.slow]
LABELS = ("card", "loan", "旅行")
WIDE = ("ｍｙ ｃａｒｄ", "a ｌｏａｎ of １２．５％")  # letters of full width
PLAIN = ("my card", "my \u200bcard\n was  lost", " ".join(TEXTS[:40]))
ASKED = [*TEXTS[::17], *WIDE, *PLAIN, *(text[:999] for text in STRANGE)]
_HEADS = {  # by encoder: the head, with words, with a link, and how texts are read
    "bert": ("ridge", True, True, CLEANING),
    "roberta": ("kernel_lda", False, False, CLEANING),
    "gpt2": ("linear", False, False, 1),
    "t5": ("fused", True, False, CLEANING),
}
_ASKING = """
import json, sys
sys.modules["perennial"] = None  # what imports it fails
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
texts, folders = json.loads(sys.stdin.read())
answered = {}
for name, (folder, code) in folders.items():
    asked = pipeline("text-classification", model=folder, top_k=None, trust_remote_code=code, device="cpu")
    model, tokenizer = asked.model, AutoTokenizer.from_pretrained(folder, trust_remote_code=code)
    given = asked(texts, batch_size=4, **({} if code else {"truncation": True, "max_length": 16}))
    ids = tokenizer(["my card", "a loan with interest"], return_tensors="pt", padding=True)
    again = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=code)(**ids).logits
    answered[name] = {
        "scores": [{each["label"]: each["score"] for each in row} for row in given],
        "logits": again.tolist(), "length": tokenizer.model_max_length, "class": type(model).__name__,
    }
print(json.dumps(answered))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Folders by the encoder that they are of, and what transformers says of each."""

    folders: Mapping[str, Path]
    trained: Mapping[str, Path]
    answered: Mapping[str, dict[str, Any]]


def trained_folder(folder: Path, encoder: str, head: str, *, words: bool, link: bool, cleaning: int) -> Path:
    """What a learner leaves, with a head of random weights."""
    from safetensors.numpy import save_file

    given = write_encoder(encoder, folder / "given")
    rng = np.random.default_rng(len(encoder))
    width = 64 if head in {"ridge", "kernel_lda"} else 32
    tensors = {"weight": rng.normal(size=(3, width)), "bias": rng.normal(size=3)}
    if width == 64:
        tensors |= {"omega": rng.normal(size=(32, width)), "phase": rng.uniform(0.0, 6.0, size=width)}
    head_ = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    if words:
        features, made = LexicalFeatures.of_size(48, 2), Link(slope=0.1, shift=0.5, floor=0.05, power=2.0)
        head_ |= WordScores.tensors(rng.normal(size=(3, 96)).astype(np.float32), features, made if link else None)
    out = folder / "trained"
    out.mkdir()
    save_file(head_, out / HEAD_FILE)
    ModelCard(
        learner="ridge",
        encoder=str(given),
        encoder_fingerprint=fingerprint(given),
        labels=LABELS,
        head=head,
        max_length=16,
        metrics={"holdout_accuracy": 0.91},
        data={"rows": 120},
        cleaning=cleaning,
    ).write(out)
    return out


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    work = tmp_path_factory.mktemp("folders")
    trained = {
        encoder: trained_folder(work / encoder, encoder, head, words=words, link=link, cleaning=cleaning)
        for encoder, (head, words, link, cleaning) in _HEADS.items()
    }
    taken = Adoptable.read(write_classifier("distilbert", work / "theirs", list(LABELS)), max_length=16)
    taken.adopt(work / "distilbert")
    trained["distilbert"] = work / "distilbert"
    folders = {
        name: write_folder(place, work / "out" / name, name=f"mood {name}").folder for name, place in trained.items()
    }
    told = json.dumps([ASKED, {name: [str(folder), name in _HEADS] for name, folder in folders.items()}])
    environment = {**os.environ, "HF_HOME": str(work / "home"), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ASKING],
        input=told,
        capture_output=True,
        text=True,
        cwd=work,
        env=environment,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4_000:]
    return Asked(folders=folders, trained=trained, answered=json.loads(ran.stdout.splitlines()[-1]))


def expected(trained: Path, folder: Path, texts: list[str], *, words: bool) -> np.ndarray[Any, Any]:
    """The logits of the version's own module, each text alone, with those of its words."""
    import torch

    model, texts = TrainedModel.load(trained), read_card(trained).as_read(texts)
    model.write_tokenizer(folder / "served-tokenizer.json")
    rows = TextTokenizer(folder / "served-tokenizer.json").encode(texts)
    module = model.module()
    logits = []
    for row in rows:
        inputs = padded([row], width=1)
        inputs["attention_mask"][:, 0] = 1
        with torch.inference_mode():
            logits.append(
                module(*(torch.from_numpy(inputs[name]) for name in ("input_ids", "attention_mask")))[0].numpy()
            )
    found = np.concatenate(logits)
    beside = WordScores.read(trained / HEAD_FILE) if words else None
    return found if beside is None else beside.whole(found, texts)


@pytest.mark.parametrize("encoder", _HEADS)
def test_a_head_that_was_learnt_here_answers_alike_in_transformers(asked: Asked, tmp_path: Path, encoder: str) -> None:
    said = asked.answered[encoder]
    assert (said["class"], said["length"]) == ("PerennialForSequenceClassification", 16)
    scores = softmax(expected(asked.trained[encoder], tmp_path, ASKED, words=True))
    seen = np.array([[row[label] for label in LABELS] for row in said["scores"]])
    np.testing.assert_allclose(seen, scores, atol=2e-4)
    assert (scores[ASKED.index(WIDE[0])] == scores[ASKED.index("my card")]).all() == (_HEADS[encoder][3] == CLEANING)
    logits = expected(asked.trained[encoder], tmp_path, ["my card", "a loan with interest"], words=False)
    np.testing.assert_allclose(np.array(said["logits"]), logits, atol=2e-3 * max(1.0, float(np.abs(logits).max())))


def test_a_classifier_that_was_taken_over_needs_no_code_and_can_be_taken_over_again(
    asked: Asked, tmp_path: Path
) -> None:
    said, folder = asked.answered["distilbert"], asked.folders["distilbert"]
    assert said["class"] == "DistilBertForSequenceClassification"
    assert not list(folder.glob("*.py"))
    logits = expected(asked.trained["distilbert"], tmp_path, ["my card", "a loan with interest"], words=False)
    np.testing.assert_allclose(np.array(said["logits"]), logits, atol=1e-4)
    assert Adoptable.read(folder, max_length=16).labels == LABELS


def test_the_folder_has_what_such_folders_have_and_says_what_it_leaves_out(asked: Asked) -> None:
    code = {"perennial_classifier.py", "perennial_parts.py", "perennial_pipeline.py"}
    plain = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in asked.folders["bert"].iterdir()} == {*plain, *code, "words.safetensors"}
    assert {path.name for path in asked.folders["gpt2"].iterdir()} == {*plain, *code}
    said = json.loads((asked.folders["bert"] / "config.json").read_text())
    assert said["id2label"] == {str(place): label for place, label in enumerate(LABELS)}
    told = (asked.folders["bert"] / "README.md").read_text()
    assert told.startswith("---\nlibrary_name: transformers\n")
    for words in ("trust_remote_code=True", "What is left out", "words.safetensors", "0.91", "at 16\ntokens"):
        assert words in told
    assert str(asked.trained["bert"].parent.parent) not in told + json.dumps(said), "no place of this machine"
    for path in asked.folders["bert"].glob("*.py"):
        assert "import perennial" not in path.read_text()
        assert "from perennial" not in path.read_text()


def test_a_foreign_graph_goes_out_as_it_came(tmp_path: Path) -> None:
    inside = tmp_path / "trained" / "classifier"
    inside.mkdir(parents=True)
    for name in ("model.onnx", "tokenizer.json", "config.json"):
        (inside / name).write_text(f"{{}} of {name}")
    ModelCard(
        learner="finetune", encoder="classifier", encoder_fingerprint="x", labels=LABELS, head="onnx", max_length=16
    ).write(tmp_path / "trained")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")  # an empty folder by another name
    written = write_folder(tmp_path / "trained", tmp_path / "out", name="mood 1")
    assert written.files == ("README.md", "config.json", "model.onnx", "tokenizer.json")
    assert (tmp_path / "out" / "model.onnx").read_text() == "{} of model.onnx"
    assert "onnxruntime" in (tmp_path / "out" / "README.md").read_text()


def test_nothing_is_written_over_and_nothing_that_answers_otherwise(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ConfigurationError, match="not empty"):
        write_folder(asked.trained["gpt2"], tmp_path, name="mood 1")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ConfigurationError, match="the folder that you are in"):
        write_folder(asked.trained["gpt2"], Path(), name="mood 1")
    ModelCard(learner="gram", task="ranking").write(tmp_path)
    with pytest.raises(ConfigurationError, match="of the task ranking"):
        write_folder(tmp_path, tmp_path / "out", name="shop 1")
    monkeypatch.setattr(TrainedModel, "module", lambda _: lambda ids, mask: (ids[:, :3] * 100.0, mask))
    with pytest.raises(ExportFailed, match="gives other logits"):
        write_folder(asked.trained["bert"], tmp_path / "out", name="mood 1")
    assert not (tmp_path / "out").exists()


def test_parts_taken_out_of_the_source_are_the_same() -> None:
    taken = types.ModuleType("taken")
    source = source_without_imports(perennial_parts)
    assert "perennial" not in source.split('"""', 2)[2].replace("Perennial", "")
    sys.modules["taken"] = taken  # dataclasses look their module up
    try:
        exec(compile(source, "taken", "exec"), taken.__dict__)
    finally:
        del sys.modules["taken"]
    features = LexicalFeatures.of_size(48, 2)
    weight = np.random.default_rng(0).normal(size=(3, 96)).astype(np.float32)
    mine, theirs = (made(weight, features) for made in (WordScores, taken.WordScores))
    np.testing.assert_array_equal(mine(ASKED), theirs(ASKED))
    assert [clean(fold_width(text)) for text in ASKED] == [taken.clean(taken.fold_width(text)) for text in ASKED]


def test_two_things_of_one_name_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "perennial_planted").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("perennial.exporters.hugging_face.own_source._OURS", "perennial_planted.")
    files = {
        "__init__": "",
        "one": "_SIZE = 1\ndef one():\n    return _SIZE\n",
        "two": "_SIZE = 2\ndef two():\n    return _SIZE\n",
        "both": "from perennial_planted.one import one\nfrom perennial_planted.two import two\n",
        "alias": "from perennial_planted.one import one as first\n",
        "good": "from perennial_planted.one import one\n",
    }
    for name, text in files.items():
        (tmp_path / "perennial_planted" / f"{name}.py").write_text(text)
    named = {name: types.ModuleType(f"perennial_planted.{name}") for name in ("both", "alias", "good")}
    assert "_SIZE = 1" in source_without_imports(named["good"])
    with pytest.raises(ExportFailed, match=r"_SIZE of perennial_planted\.two is another thing"):
        source_without_imports(named["both"])
    with pytest.raises(ExportFailed, match="keep its name"):
        source_without_imports(named["alias"])


def test_a_version_is_saved_out_of_its_bundle(tmp_path: Path, trained: TrainedModel) -> None:
    settings = Settings(state=tmp_path, repository=tmp_path / "repository", models={"intent": ModelSettings()})
    workspace, out = Workspace(settings), tmp_path / "out"
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.register_model("intent", {})
        for version in (1, 2):
            ledger.add_version(VersionRow(model="intent", version=version, card=version_card(labels=trained.labels)))
        bundle = workspace.bundle("intent", 1)
        export(bundle.parent, trained.folder, EngineKind.ONNXRUNTIME)
        held = SimpleNamespace(workspace=workspace, ledger=ledger, repository=ModelRepository(workspace.repository))
        parts = cast("Parts", held)
        plan = save_version(parts, "intent", 1, out, dry_run=True)
        assert (plan["folder"], out.exists()) == (str(out), False)
        told = save_version(parts, "intent", 1, out)
        assert (told["layout"], "model.safetensors" in told["files"]) == ("code", True)
        with pytest.raises(NotFound, match=r"no bundle of version 2 any more; on disk are \[1\]"):
            save_version(parts, "intent", 2, tmp_path / "other")
        with pytest.raises(NotFound):
            save_version(parts, "intent", 3, tmp_path / "other")
        (bundle / "labels.json").write_text("[]")
        with pytest.raises(BundleRejected, match=r"labels\.json"):
            save_version(parts, "intent", 1, tmp_path / "other")
    assert not (tmp_path / "other").exists()
