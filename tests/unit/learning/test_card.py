"""The card of a trained model: what is written is read, other releases' fields stay, and damage is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import DataError
from perennial.continual.learning.card import CLEANING, FORMAT, MODEL_FILE, ModelCard, drop_card, is_finished, read_card

CARD = ModelCard(
    learner="finetune",
    encoder="encoder",
    encoder_fingerprint="sha256:0",
    labels=("wörter", "b"),
    head="linear",
    temperature=1.5,
    max_length=64,
    metrics={"holdout_accuracy": 0.5},
    parent_version=3,
    data={"rows": 10},
    settings={"gamma": 0.5},
)
FIRST = {  # as the first release wrote it
    "format": FORMAT, "learner": "kernel_lda", "encoder": "packaged:minilm", "encoder_fingerprint": "sha256:1",
    "labels": ["a"], "head": "kernel_lda", "temperature": 1, "max_length": 128, "metrics": {}, "parent_version": None,
    "data": {"rows": 1},
}  # fmt: skip


def put(folder: Path, content: Any) -> Path:
    (folder / MODEL_FILE).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def test_a_card_is_read_as_it_was_written_and_marks_a_finished_training(tmp_path: Path) -> None:
    assert not is_finished(tmp_path)
    CARD.write(tmp_path)
    assert is_finished(tmp_path)
    assert read_card(tmp_path) == CARD
    assert list(json.loads((tmp_path / MODEL_FILE).read_text()))[-1] == "format", "the layout is the older one"
    for _ in range(2):
        drop_card(tmp_path)
        assert not is_finished(tmp_path)


def test_an_older_card_gets_the_defaults_and_a_newer_one_keeps_its_fields(tmp_path: Path) -> None:
    old = read_card(put(tmp_path, FIRST))
    assert (old.settings, old.unknown) == ({}, {})
    assert (old.cleaning, CARD.cleaning) == (1, CLEANING), "an old version goes on reading texts as it did"
    newer = FIRST | {"settings": {}, "task": "ranking", "cleaning": 3, "targets": [1, {"a": None}]}
    card = read_card(put(tmp_path, newer))
    replace(card, encoder="encoder").write(tmp_path)
    assert json.loads((tmp_path / MODEL_FILE).read_text()) == newer | {"encoder": "encoder"}


def test_the_encoder_is_the_folder_inside_or_what_is_named(tmp_path: Path) -> None:
    assert CARD.encoder_source(tmp_path) == str(tmp_path / "encoder")
    assert replace(CARD, encoder="packaged:minilm").encoder_source(tmp_path) == "packaged:minilm"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ('{"format": "perenn', "is not JSON"),
        ([FIRST], "format 'list'"),
        (FIRST | {"format": "perennial-trained-2"}, "this version reads 'perennial-trained-1'"),
        ({name: value for name, value in FIRST.items() if name != "labels"}, "labels"),
        (FIRST | {"labels": "ab"}, "labels is 'ab'; it must be a list of texts"),
        (FIRST | {"labels": ["a", 1]}, r"labels hold \[1\]"),
        (FIRST | {"temperature": "hot"}, "temperature is 'hot'; it must be a number"),
        (FIRST | {"max_length": True}, "max_length is 'True'"),
        (FIRST | {"data": [1]}, "data is"),
    ],
)
def test_a_damaged_card_is_refused_with_what_is_wrong(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as refused:
        read_card(put(tmp_path, content))
    assert str(tmp_path / MODEL_FILE) in str(refused.value)


def test_a_folder_without_a_card_is_no_finished_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its training did not finish"):
        read_card(tmp_path)
