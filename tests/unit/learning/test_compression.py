"""Smaller models: what is cut, what stays the same to the bit, and that students learn from their teacher."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.card import read_card
from perennial.continual.learning.compression import CompressionSpec, Step, compress
from perennial.continual.learning.compression.shrink import layers_kept, shrink
from perennial.continual.learning.compression.vocabulary import cut_vocabulary
from perennial.continual.learning.context import Context
from perennial.continual.learning.encoder import Encoder
from perennial.continual.learning.encoder_folder import read_facts
from perennial.continual.learning.finetune import train_slow
from perennial.continual.learning.open_set import OpenSet
from perennial.continual.learning.spec import JobSpec
from tests.unit.learning.conftest import make_rows

pytestmark = pytest.mark.slow

TEXTS = ["my card was lost", "the loan interest"]


def embedded(folder: Path, texts: list[str]) -> np.ndarray:
    return Encoder.load(str(folder), max_length=24).embed(texts)


def test_a_cut_vocabulary_answers_its_texts_as_before_to_the_bit(tiny_encoder: Path, tmp_path: Path) -> None:
    before = read_facts(tiny_encoder).ids
    kept = cut_vocabulary(tiny_encoder, tmp_path / "cut", TEXTS, max_length=24, margin=0)
    tokens = json.loads((tmp_path / "cut" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert kept == read_facts(tmp_path / "cut").ids == len(tokens) < before
    assert set(" ".join(TEXTS).split()) <= tokens.keys()
    np.testing.assert_array_equal(embedded(tmp_path / "cut", TEXTS), embedded(tiny_encoder, TEXTS))
    assert np.isfinite(embedded(tmp_path / "cut", ["flight and hotel"])).all(), "words that are gone are unknown ones"
    whole = cut_vocabulary(tiny_encoder, tmp_path / "whole", TEXTS, max_length=24)
    assert whole == before, "the margin keeps the commonest words"


def test_merged_pairs_are_no_list_to_be_cut(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bpe"
    shutil.copytree(tiny_encoder, folder)
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE({"a": 0, "b": 1}, [])).save(str(folder / "tokenizer.json"))
    with pytest.raises(ConfigurationError, match="is a BPE"):
        cut_vocabulary(folder, tmp_path / "cut", ["a"], max_length=24)


def test_layers_and_neurons_that_stay_are_the_encoders_own(tiny_encoder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    shrink(tiny_encoder, tmp_path / "small", TEXTS, max_length=24, layers=1, width=16)
    config = json.loads((tmp_path / "small" / "config.json").read_text(encoding="utf-8"))
    assert (config["num_hidden_layers"], config["intermediate_size"]) == (1, 16)
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_encoder, tmp_path / "small"))
    last, name = "encoder.layer.1.intermediate.dense.weight", "encoder.layer.0.intermediate.dense.weight"
    rows = {row.tobytes() for row in before[last]}
    assert after[name].shape == (16, 32)
    assert all(row.tobytes() in rows for row in after[name])
    assert embedded(tmp_path / "small", TEXTS).shape == (2, 32)


def test_neurons_that_follow_from_others_are_not_missed(tiny_encoder: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(tiny_encoder)
    with torch.no_grad():
        for layer in encoder.encoder.layer:
            inner = layer.intermediate.dense
            inner.weight[24:], inner.bias[24:] = inner.weight[:24].clone(), inner.bias[:24].clone()
    twins = tmp_path / "twins"
    shutil.copytree(tiny_encoder, twins)
    encoder.save_pretrained(twins, safe_serialization=True)
    texts = [row.text for row in make_rows("card loan trip", 60, 1)]
    shrink(twins, tmp_path / "half", texts, max_length=24, width=24)
    close = (embedded(tmp_path / "half", texts) * embedded(twins, texts)).sum(axis=1)
    assert close.min() > 0.999, "each second neuron was another one's twin"


@pytest.mark.parametrize(("fields", "why"), [({"layers": 3}, "keep 1 to 2"), ({"width": 49}, "inner neurons")])
def test_more_than_there_is_cannot_stay(tiny_encoder: Path, tmp_path: Path, fields: dict[str, int], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        shrink(tiny_encoder, tmp_path / "small", TEXTS, max_length=24, **fields)


@pytest.mark.parametrize("count", range(1, 13))
def test_layers_that_stay_are_different_and_in_order(count: int) -> None:
    for keep in range(1, count + 1):
        kept = layers_kept(count, keep)
        assert len(kept) == keep
        assert kept == sorted(set(kept))
        assert kept[-1] == count - 1
        assert keep == 1 or kept[0] == 0


def test_students_learn_from_the_model_and_a_step_is_not_taken_twice(
    make_spec: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perennial.continual.learning.open_set._ENOUGH", 5)
    rows = make_rows("card loan trip", 60, 1)
    params = {"epochs": 3, "batch": 16, "learning_rate": 1e-3, "head": "linear"}
    path = make_spec(
        "one", learner="finetune", examples=rows, holdout=make_rows("card loan trip", 10, 9), params=params
    )
    job = JobSpec.read(path)
    train_slow(job, Context())
    (limit := OpenSet(limit=0.0, per_logit=1.0, per_distance=0.0, false_refusals=0.2, rows=60)).write(job.out)
    assert job.examples is not None
    spec = CompressionSpec(
        source=job.out,
        rows=job.examples,
        out=path.parent / "smaller",
        steps=(
            Step(name="vocabulary"),
            Step(name="1 layer, half", layers=1, width=24),
            Step(name="wider than it is", width=49),
        ),
        cache=path.parent / "cache",
        threads=1,
        epochs=6,
        schedule={"learning_rate": 1e-3, "batch": 16},
    )
    (whole,) = compress(replace(spec, steps=spec.steps[:1]), Context())
    assert whole.accuracy == whole.source_accuracy, "nothing was lost"
    spec.write(path.parent / "compress.json")
    assert CompressionSpec.read(path.parent / "compress.json") == spec
    again, smaller = compress(spec, Context())
    assert again == whole, "and what the encoder does not allow is left out"
    assert smaller.accuracy > 0.8
    card = read_card(Path(smaller.folder))
    assert (card.head, card.learner, card.labels) == ("linear", "finetune", ("card", "loan", "trip"))
    assert not (Path(smaller.folder) / "start").exists()
    own = OpenSet.read(Path(smaller.folder))
    assert own is not None, "it tells what is of none of its classes, as the source does"
    assert (own.false_refusals, own.limit != limit.limit) == (0.2, True)
    with pytest.raises(DataError, match="too few to teach"):
        compress(replace(spec, rows=make_spec_rows(path.parent)), Context())


def make_spec_rows(folder: Path) -> Path:
    (folder / "none.jsonl").write_text("", encoding="utf-8")
    return folder / "none.jsonl"
