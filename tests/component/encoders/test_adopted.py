"""A classifier that was fine-tuned elsewhere answers as it did, whatever kind of head it has."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.adoption import Adoptable
from perennial.continual.learning.card import read_card
from perennial.exporters.job import export_bundle
from perennial.exporters.onnx import export_onnx
from perennial.exporters.spec import ExportSpec
from perennial.exporters.text_classification.classifier import BundleClassifier
from perennial.exporters.trained import TrainedModel
from perennial.ops.cli.main import app
from tests.component.encoders.tiny import CLASSIFIERS, TEXTS, write_classifier

pytestmark = [pytest.mark.component, pytest.mark.slow, pytest.mark.timeout(600)]

LABELS = ["lost card", "exchange_rate", "Gebühr", "other"]
ASKED = [*(text.strip() for text in TEXTS[::9]), " ".join(text.strip() for text in TEXTS)]  # as they are after cleaning


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_bundle_answers_like_the_users_own_model(name: str, tmp_path: Path) -> None:
    folder = write_classifier(name, tmp_path / "mine", LABELS)
    found = Adoptable.read(folder, max_length=128)
    assert (found.labels, found.max_length) == (tuple(LABELS), 24)
    found.adopt(tmp_path / "trained")
    bundle = export(tmp_path, found.probe_texts())
    answered = BundleClassifier.load(bundle, threads=1).predict(ASKED)
    expected = asked_of_the_user(folder, ASKED)
    np.testing.assert_allclose(answered.logits, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))
    assert answered.labels == [LABELS[place] for place in expected.argmax(axis=1)]
    np.testing.assert_allclose(np.linalg.norm(answered.embeddings, axis=1), 1.0, atol=1e-5)
    card = read_card(bundle)
    assert (card.head, card.labels, card.data["rows"]) == ("classifier", tuple(LABELS), 0)
    assert TrainedModel.load(bundle).dimension == 32


def asked_of_the_user(folder: Path, texts: list[str]) -> np.ndarray:
    """Logits of transformers' own class, each text alone, cut at the positions that there are."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    model.eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(24)
    with torch.inference_mode():
        rows = [torch.tensor([tokenizer.encode(text).ids]) for text in texts]
        return np.concatenate(
            [model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.numpy() for ids in rows]
        )


def export(work: Path, texts: list[str]) -> Path:
    """The trained folder in `work` as a bundle, proved by texts whose right answer nobody knows."""
    (work / "held.json").write_text(json.dumps({"texts": texts}))
    spec = ExportSpec(
        trained_dir=work / "trained", out_dir=work / "bundle", held_out=work / "held.json", model="mine", version=1,
        engine="onnxruntime", precision="fp32", threads=2,
    )  # fmt: skip
    return export_bundle(spec).bundle


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT classifier that tests copy before they change it."""
    return write_classifier("bert", tmp_path_factory.mktemp("given") / "mine", LABELS)


def changed(source: Path, target: Path, **settings: Any) -> Path:
    """A copy with other words in its configuration; None takes a word out."""
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    configuration = json.loads((target / "config.json").read_text()) | settings
    (target / "config.json").write_text(
        json.dumps({name: value for name, value in configuration.items() if value is not None})
    )
    return target


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"problem_type": "multi_label_classification"}, "several labels at once"),
        ({"problem_type": "regression"}, "a number"),
        ({"id2label": {"0": "score"}, "label2id": {"score": 0}}, "one output"),
        ({"architectures": ["BertModel"]}, "An encoder without a head is set as `encoder`"),
        ({"architectures": ["BertForTokenClassification"]}, "BertForTokenClassification"),
        ({"architectures": None}, "no architecture"),
        ({"id2label": {"0": "same", "1": "same"}}, "a name of its own"),
        ({"id2label": {"0": "a", "2": "b"}}, "a name of its own"),
        ({"id2label": {"0": "a", "1": "b"}}, r"gives 4 outputs \(classifier.weight\), and config.json names 2 labels"),
        ({"id2label": {str(n): f"l{n}" for n in range(5)}}, "4 outputs .* names 5 labels; make id2label name each"),
        ({"id2label": None, "label2id": None}, "4 outputs .* names 2 labels"),
        ({"is_encoder_decoder": True}, "an encoder with a decoder"),
        ({"auto_map": {"AutoModel": "mine.Model"}}, "never run"),
        ({"vocab_size": 40}, "resize_token_embeddings"),
        ({"architectures": "BertForSequenceClassification"}, "no architecture"),
        ({"problem_type": ["regression"]}, r"trained for \['regression'\]"),
        ({"id2label": None, "num_labels": "3"}, "must be a number"),
        ({"id2label": None, "num_labels": 10**9}, "must be a number"),
        *(
            ({"id2label": {"0": name, "1": "b"}}, f"a name that no label may have: {why}")
            for name, why in {
                "a\0b": "label 'a.x00b' holds the control",
                "q" * 10_240: "label has 10240 bytes",
                "\ud800": "label: character 0 is U.D800",
                "\u200b ": "label .* is empty",
                None: "label is NoneType",
            }.items()
        ),
        ({"id2label": {"0": "a\u202e", "1": "a"}}, "a name of its own"),
        ({"max_position_embeddings": 7}, "the position table of .* is 7; it must be at least 8 tokens"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(
    classifier: Path, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    folder = changed(classifier, tmp_path / "changed", **settings)
    with pytest.raises(ConfigurationError, match=reason):
        Adoptable.read(folder, max_length=128)


def test_labels_have_the_form_that_people_can_answer_with(classifier: Path, tmp_path: Path) -> None:
    names = {"0": " fee\u202e ", "1": "Cafe\u0301", "2": "two\nlines", "3": 4}
    folder = changed(classifier, tmp_path / "changed", id2label=names)
    assert Adoptable.read(folder, max_length=128).labels == ("fee", "Café", "two lines", "4")


def headless(folder: Path) -> None:
    kept = {name: value for name, value in load_file(folder / "model.safetensors").items() if "classifier" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def cut_short(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def spoilt(part: str, value: float, dtype: str = "float32") -> Callable[[Path], None]:
    """One value of a part of the weights is no number, in a file of this type."""

    def spoil(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        weights = {n: w.to(getattr(torch, dtype)) for n, w in load_file(folder / "model.safetensors").items()}
        weights[next(name for name in weights if part in name)].view(-1)[1] = value
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return spoil


def lost_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lost_shard, r"lacks \['model-00002-of-00002.safetensors'\]"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "holds no weights"),
        (cut_short, "is cut short"),
        (headless, "no head that gives 4 outputs; it would be random"),
        (spoilt("classifier.weight", math.nan), r"holds 1 values that are no finite numbers \(classifier.weight\)"),
        (spoilt("classifier.bias", math.nan, "bfloat16"), r"no finite numbers \(classifier.bias\)"),
        (spoilt("classifier.weight", math.inf, "float16"), r"no finite numbers \(classifier.weight\)"),
        (spoilt("classifier.weight", -math.inf, "bfloat16"), r"no finite numbers \(classifier.weight\)"),
        (spoilt("attention.self.query.weight", math.nan), r"no finite numbers \(bert.*query.weight\)"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "is not JSON"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
    ],
    ids=[
        *("a shard lost", "no weights", "weights cut off", "no head", "head of NaN", "NaN in bfloat16"),
        *("infinite in float16", "infinite in bfloat16", "NaN in the encoder"),
        *("nested without end", "no tokenizer"),
    ],
)
def test_a_damaged_folder_is_refused_before_anything_is_made_of_it(
    classifier: Path, tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    folder = changed(classifier, tmp_path / "changed")
    spoil(folder)
    with pytest.raises(ConfigurationError, match=reason):
        Adoptable.read(folder, max_length=128)
    settings = tmp_path / "perennial.toml"
    for words in (["--dry-run"], []):
        told = CliRunner().invoke(app, ["init", "mine", "--model", str(folder), "--config", str(settings), *words])
        assert re.search(reason, str(told.exception))
        assert not settings.exists()


def test_infinite_masks_and_other_types_are_no_hindrance(classifier: Path, tmp_path: Path) -> None:
    folder = changed(classifier, tmp_path / "changed")
    for dtype in ("float16", "bfloat16"):
        spoilt("attention.self.query.weight", math.inf, dtype)(folder)
        assert Adoptable.read(folder, max_length=128).labels == tuple(LABELS)


def test_what_else_lies_in_the_folder_is_no_hindrance(classifier: Path, tmp_path: Path) -> None:
    folder = changed(classifier, tmp_path / "changed")
    (folder / "runs.json").mkdir()
    (folder / "gone.txt").symlink_to(tmp_path / "nowhere")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": Infinity}')
    adoptable = Adoptable.read(folder, max_length=128)
    adoptable.adopt(tmp_path / "trained")
    assert TrainedModel.load(tmp_path / "trained").labels == tuple(LABELS)


def test_a_classifier_is_told_apart_by_all_that_it_is_made_of(classifier: Path, tmp_path: Path) -> None:
    other = changed(classifier, tmp_path / "weights")
    weights = {name: value + 1 for name, value in load_file(other / "model.safetensors").items()}
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    read = [
        Adoptable.read(folder, max_length=length).identity
        for folder, length in (
            (classifier, 24),
            (shutil.copytree(classifier, tmp_path / "same"), 24),
            (classifier, 20),
            (changed(classifier, tmp_path / "labels", id2label={"0": "a", "1": "b", "2": "c", "3": "d"}), 24),
            (other, 24),
        )
    ]
    assert read[0] == read[1]
    assert len(set(read)) == 4


def test_a_head_whose_weights_are_not_there_is_not_served_at_random(classifier: Path, tmp_path: Path) -> None:
    card = Adoptable.read(classifier, max_length=128).adopt(tmp_path / "trained")
    headless(tmp_path / "trained" / card.encoder)
    with pytest.raises(ConfigurationError, match=r"classifier\.(bias|weight); they would be random"):
        TrainedModel.load(tmp_path / "trained").module()


def test_labels_without_names_are_those_of_transformers(classifier: Path, tmp_path: Path) -> None:
    folder = changed(classifier, tmp_path / "changed", id2label=None, label2id=None, num_labels=4)
    assert Adoptable.read(folder, max_length=128).labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")


def test_texts_that_prove_it_are_nobodys_and_always_the_same(classifier: Path) -> None:
    found = Adoptable.read(classifier, max_length=128)
    texts = found.probe_texts()
    assert texts == found.probe_texts()
    assert texts[:2] == ["lost card", "exchange rate"]
    assert len(texts) > 64
    assert all(texts)


@pytest.mark.parametrize("narrow", [False, True], ids=["int64", "int32"])
def test_an_onnx_file_of_another_exporter_is_served_as_it_is(tmp_path: Path, narrow: bool) -> None:
    import onnxruntime

    found = Adoptable.read(write_foreign(tmp_path / "mine", narrow=narrow), max_length=128)
    assert (found.labels, found.max_length) == (("no", "maybe", "yes"), 128)
    found.adopt(tmp_path / "trained")
    bundle = export(tmp_path, found.probe_texts())
    answered = BundleClassifier.load(bundle, threads=1)
    session = onnxruntime.InferenceSession(str(tmp_path / "mine" / "mine.onnx"), providers=["CPUExecutionProvider"])
    ids = np.array(answered.tokenizer.encode(["my card"]), dtype=np.int32 if narrow else np.int64)
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    predicted = answered.predict(["my card"])
    np.testing.assert_allclose(predicted.logits, session.run(None, feed)[0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(predicted.embeddings, axis=1), 1.0, atol=1e-6)
    assert TrainedModel.load(bundle).dimension == 3


def write_foreign(folder: Path, *, narrow: bool) -> Path:
    """A mean of word vectors, and of token types, exported by hand with names of its own."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from tests.component.encoders.tiny import ENCODERS

    folder.mkdir()
    tokenizer = ENCODERS["bert"].tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "no", "1": "maybe", "2": "yes"}}))
    table = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 3)).astype(np.float32)
    kind = TensorProto.INT32 if narrow else TensorProto.INT64
    nodes = [
        helper.make_node("Add", ["input_ids", "token_type_ids"], ["places"]),
        helper.make_node("Gather", ["table", "places"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["flat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat", "last"], ["mask"]),
        helper.make_node("Mul", ["rows", "mask"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["output_0"], keepdims=0),
    ]
    names = ("input_ids", "attention_mask", "token_type_ids")
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info(name, kind, ["batch_size", "sequence_length"]) for name in names],
        [helper.make_tensor_value_info("output_0", TensorProto.FLOAT, ["batch_size", 3])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([-1]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, folder / "mine.onnx")
    return folder


def test_an_onnx_file_with_its_weights_beside_it_is_taken_whole(tmp_path: Path) -> None:
    import onnx

    folder = write_foreign(tmp_path / "mine", narrow=False)
    proto = onnx.load(folder / "mine.onnx")
    wanted = {tensor.name: tensor.raw_data for tensor in proto.graph.initializer}
    (folder / "mine.onnx").unlink()
    onnx.save(proto, folder / "mine.onnx", save_as_external_data=True, location="mine.onnx.data", size_threshold=0)
    cache = tmp_path / "cache"  # as a cache of downloads has it: links to files of other names
    cache.mkdir()
    for place, path in enumerate(sorted(folder.iterdir())):
        path.rename(tmp_path / f"blob{place}")
        (cache / path.name).symlink_to(tmp_path / f"blob{place}")
    adoptable = Adoptable.read(cache / "mine.onnx", max_length=128)
    adoptable.adopt(tmp_path / "trained")
    inside = TrainedModel.load(tmp_path / "trained").encoder
    assert sorted(path.name for path in inside.glob("*.onnx*")) == ["model.onnx"]
    taken = onnx.load(inside / "model.onnx").graph.initializer
    assert {tensor.name: tensor.raw_data for tensor in taken} == wanted
    (cache / "mine.onnx.data").unlink()
    with pytest.raises(ConfigurationError, match=r"weights in 'mine.onnx.data', which must be a file beside it"):
        Adoptable.read(cache / "mine.onnx", max_length=128)
    (cache / "mine.onnx").unlink()
    (cache / "mine.onnx").write_bytes(b"\xff" * 99)
    with pytest.raises(ConfigurationError, match="is no ONNX file"):
        Adoptable.read(cache / "mine.onnx", max_length=128)


def test_an_onnx_file_with_other_inputs_or_labels_is_refused(tmp_path: Path) -> None:
    import onnx

    folder = write_foreign(tmp_path / "mine", narrow=False)
    configuration = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "no", "1": "yes"}}))
    with pytest.raises(ConfigurationError, match=r"gives \d outputs \(.*\), and config.json names 2 labels"):
        Adoptable.read(folder, max_length=128)
    (folder / "config.json").write_text(json.dumps(configuration))
    proto = onnx.load(folder / "mine.onnx")
    for node in proto.graph.node:
        node.input[:] = ["pixels" if name == "attention_mask" else name for name in node.input]
    proto.graph.input[1].name = "pixels"
    onnx.save(proto, folder / "mine.onnx")
    Adoptable.read(folder / "mine.onnx", max_length=128).adopt(tmp_path / "odd")
    with pytest.raises(ConfigurationError, match=r"of which \['pixels'\] cannot be fed"):
        export_onnx(TrainedModel.load(tmp_path / "odd"), tmp_path / "odd.onnx")
