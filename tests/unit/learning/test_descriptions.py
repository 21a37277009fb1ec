"""A class that begins in words: answered at once, displaced by its rows, gone when its sentence is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.card import read_card
from perennial.continual.learning.context import Context
from perennial.continual.learning.descriptions import anchor_texts
from perennial.continual.learning.encoder import Encoder
from perennial.continual.learning.fast import train_fast
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.trained import read_head
from tests.unit.learning.conftest import make_rows

pytestmark = pytest.mark.slow

Write = Callable[..., Path]
SETTINGS = {"features": 200, "gamma": 0.5, "shrinkage": 1e-3}
TRIP = {"trip": "flight hotel visa trip"}


def train(path: Path) -> Path:
    spec = JobSpec.read(path)
    train_fast(spec, Context())
    return spec.out


def answers(out: Path, encoder: Path, texts: list[str]) -> list[str]:
    head = read_head(out)
    embedded = Encoder.load(str(encoder), max_length=24).embed(texts)
    return [head.labels[place] for place in head.logits(embedded).argmax(axis=1)]


def test_a_described_class_answers_requests_that_resemble_its_sentence(make_spec: Write, tiny_encoder: Path) -> None:
    rows = make_rows("card loan", 40, 1)
    plain = train(make_spec("plain", examples=rows, params=SETTINGS))
    described = train(make_spec("described", previous=plain, examples=[], params=SETTINGS | {"descriptions": TRIP}))
    questions = make_rows("trip", 40, 7)
    found = answers(described, tiny_encoder, [row.text for row in questions])
    assert np.mean([label == "trip" for label in found]) > 0.35  # 0 before; the encoder is a random one
    kept = answers(described, tiny_encoder, [row.text for row in rows])
    assert np.mean([label == row.label for label, row in zip(kept, rows, strict=True)]) > 0.9


def test_the_sentence_stays_with_the_sums_until_a_job_says_otherwise(make_spec: Write) -> None:
    described = train(
        make_spec("described", examples=make_rows("card loan", 20, 1), params=SETTINGS | {"descriptions": TRIP})
    )
    carried = train(make_spec("carried", previous=described, examples=[], params=SETTINGS))
    assert read_card(carried).labels == ("card", "loan", "trip")
    dropped = train(make_spec("dropped", previous=described, examples=[], params=SETTINGS | {"descriptions": {}}))
    assert read_card(dropped).labels == ("card", "loan")


def test_five_rows_displace_the_sentence_and_a_dropped_one_leaves_no_trace(make_spec: Write) -> None:
    rows = [*make_rows("card loan", 20, 1), *make_rows("trip", 5, 2)]
    plain = read_head(train(make_spec("plain", examples=rows, params=SETTINGS)))
    described = read_head(train(make_spec("described", examples=rows, params=SETTINGS | {"descriptions": TRIP})))
    np.testing.assert_array_equal(described.weight, plain.weight)
    fewer = [*rows[:40], *rows[40:43]]
    weighed = read_head(train(make_spec("fewer", examples=fewer, params=SETTINGS | {"descriptions": TRIP})))
    bare = read_head(train(make_spec("bare", examples=fewer, params=SETTINGS)))
    assert np.abs(weighed.weight - bare.weight).max() > 1e-3


def test_names_and_sentences_are_read_as_requests_are() -> None:
    assert anchor_texts({"ＡＰＰ": "It shows ４０４ ."}) == {"ＡＰＰ": ["APP", "It shows 404 .", "APP: It shows 404 ."]}


def test_names_and_sentences_must_say_something() -> None:
    for wrong, message in (({"a": " "}, "give a name and a sentence"), ({"_": "x"}, "a name"), ({"a ": "x"}, "spaces")):
        with pytest.raises(ConfigurationError, match=message):
            anchor_texts(wrong)
