"""Words beside a tuned network: sums that know no encoder, and a head whose two parts are one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.learning.answering import answer
from perennial.continual.learning.card import read_card
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.context import Context
from perennial.continual.learning.fast import train_fast
from perennial.continual.learning.finetune import train_slow
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.lexical import LexicalFeatures, WordScores
from perennial.continual.learning.network_head import NetworkHead
from perennial.continual.learning.ridge import Ridge
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.trained import HEAD_FILE
from perennial.continual.learning.word_sums import WordSums, fused
from perennial.continual.preparation import row_hash
from perennial.continual.records import Example
from perennial.exporters.trained import HeadKind, TrainedModel
from tests.unit.learning.conftest import make_rows

ROWS = make_rows("card loan trip", 20, 1)
WORDS = {"lexical": 400, "sketches": 2}


def ridge_of(rows: list[Example], sketches: int) -> Ridge:
    rng = np.random.default_rng(0)
    head = Ridge(
        FourierFeatures.make(dimension=4, features=6 * sketches, gamma=0.5, seed=0),
        LexicalFeatures.of_size(60, sketches),
    )
    texts = [row.text for row in rows]
    head.add(
        ClassRows(
            X=rng.standard_normal((len(rows), 4)),
            labels=[row.label for row in rows],
            keys=[row_hash(text) for text in texts],
            texts=texts,
        )
    )
    return head


@pytest.mark.parametrize("sketches", [1, 2])
def test_the_words_of_a_ridge_are_those_of_its_rows(sketches: int) -> None:
    head = ridge_of(ROWS, sketches)
    carried, alone = WordSums.of_ridge(head), WordSums(head.lexical)
    before = head.named.copy()
    assert alone.add(ROWS) == 60
    assert carried.add(ROWS) == 0  # they are in
    moved = [replace(row, label="fees") for row in ROWS[:5]]
    assert (carried.add(moved), alone.add(moved)) == (5, 5)
    assert (carried.remove(ROWS[50:]), alone.remove(ROWS[50:])) == (10, 10)
    one, two = carried.regression(0.3), alone.regression(0.3)
    assert one.labels == two.labels == carried.labels == ("card", "fees", "loan", "trip")
    np.testing.assert_allclose(one.weight, two.weight, rtol=0, atol=1e-9)
    np.testing.assert_allclose(one.bias, two.bias, rtol=0, atol=1e-9)
    assert not any(
        np.shares_memory(one, other)
        for one in head.named.arrays.values()
        for other in carried._sums.named.arrays.values()
    )
    for name, array in before.arrays.items():  # the ridge keeps its own
        np.testing.assert_array_equal(head.named.arrays[name], array)


def test_words_count_as_much_as_held_out_rows_say() -> None:
    """A network that knows nothing gets the words, and one that knows all does not; no rows, no answer."""
    words = WordSums(LexicalFeatures.of_size(200))
    words.add(make_rows("card loan", 60, 2))
    held = make_rows("card loan", 30, 9)
    texts, labels = [row.text for row in held], ("card", "loan", "trip")
    truth = np.array([labels.index(row.label) for row in held])
    X = np.eye(3)[truth]
    blind = NetworkHead(labels=labels, weight=np.zeros((3, 3), np.float32), bias=np.zeros(3, np.float32))
    both = fused(blind, words, X, texts, truth)
    scores = both.logits(X, texts)
    assert (scores.argmax(axis=1) == truth).mean() > 0.9
    assert not (scores.argmax(axis=1) == 2).any()
    seeing = replace(blind, weight=(40 * np.eye(3)).astype(np.float32))
    assert np.abs(fused(seeing, words, X, texts, truth).lexical).max() < np.abs(both.lexical).max()  # type: ignore[arg-type]
    usual = fused(blind, words, X[:0], [], truth[:0])
    assert usual.name == "fused"


@pytest.mark.slow
def test_a_fused_model_is_served_in_two_parts_that_are_one(make_spec: Callable[..., Path], tmp_path: Path) -> None:
    old, fresh = make_rows("fees", 20, 5), ROWS
    held = make_rows("card loan trip fees", 15, 9)
    first = JobSpec.read(make_spec("first", learner="ridge", examples=old + ROWS[:3], params=WORDS | {"features": 60}))
    train_fast(first, Context())
    how = {"head": "fused", "epochs": 2, "batch": 16, "learning_rate": 1e-3, "head_settings": WORDS}
    spec = JobSpec.read(
        make_spec("tuned", learner="finetune", examples=fresh, holdout=held, previous=first.out, params=how)
    )
    train_slow(spec, Context())
    card = read_card(spec.out)
    assert (card.head, card.labels) == ("fused", ("card", "fees", "loan", "trip"))
    texts = [row.text for row in held]
    labels, logits = answer(spec.out, texts, cache=tmp_path / "answers")
    right = np.mean([labels[place] == row.label for place, row in zip(logits.argmax(axis=1), held, strict=True)])
    assert card.metrics["holdout_accuracy"] == pytest.approx(right)
    assert right > 0.75  # all other classes together: the old rows' is known by its words alone, which the sums had
    model, words = TrainedModel.load(spec.out), WordScores.read(spec.out / HEAD_FILE)
    assert (model.kind, sorted(model.head)) == (HeadKind.FUSED, ["bias", "weight"])
    assert words is not None
    engine = NetworkHead(labels=labels, weight=model.head["weight"], bias=model.head["bias"])
    from perennial.continual.learning.encoder import Encoder

    X = Encoder.load(str(spec.out / "encoder"), max_length=24).embed(texts)
    whole = words.whole(engine.logits(X, texts).astype(np.float32), texts)
    np.testing.assert_allclose(whole, logits, rtol=0, atol=1e-4)
