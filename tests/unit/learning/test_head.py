"""Rows are mapped once for heads that see them alike, and only while that is asked for."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from perennial.continual.learning import mapped_rows as module
from perennial.continual.learning.fourier import FourierFeatures, WideFourier
from perennial.continual.learning.head import HeadWeights, note_mapped
from perennial.continual.learning.lexical import LexicalFeatures, WordScores
from perennial.continual.learning.mapped_rows import MappedRows, mapped_once

ROWS = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
TEXTS = ["my card", "a loan", "", "trip"]


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were mapped, each time."""
    seen = list[int]()
    map_rows = WideFourier.__call__

    def noted(self: WideFourier, X: NDArray[np.float32]) -> NDArray[np.float64]:
        seen.append(len(X))
        return map_rows(self, X)

    monkeypatch.setattr(WideFourier, "__call__", noted)
    return seen


def a_head(weights: int, *, features: int = 0, lexical: int = 12) -> HeadWeights:
    rng, words = np.random.default_rng(weights), LexicalFeatures.of_size(lexical)
    fourier = FourierFeatures.make(dimension=8, features=16, gamma=0.5, seed=features)
    return HeadWeights(
        labels=("a", "b"),
        omega=fourier.omega,
        phase=fourier.phase,
        weight=rng.standard_normal((2, 16)).astype(np.float32),
        bias=np.zeros(2, np.float32),
        temperature=1.0,
        lexical=rng.standard_normal((2, lexical)).astype(np.float32),
        words=words,
    )


def test_heads_with_equal_features_share_them_and_answer_as_they_do_alone(mapped: list[int]) -> None:
    one, other = a_head(1), a_head(2)
    alone = [head.logits(ROWS, TEXTS) for head in (one, other)]
    mapped.clear()
    with mapped_once():
        together = [head.logits(ROWS, TEXTS) for head in (one, other, one.cooled(2.0))]
    assert mapped == [4]
    for found, wanted in zip(together, alone, strict=False):
        assert np.array_equal(found, wanted)
    one.logits(ROWS, TEXTS)
    assert mapped == [4, 4]


def test_only_what_is_not_alike_is_mapped_again(mapped: list[int]) -> None:
    head = a_head(1)
    with mapped_once():
        head.logits(ROWS, TEXTS)
        for other, rows, texts in (
            (a_head(1, features=1), ROWS, TEXTS),
            (a_head(1, lexical=24), ROWS, TEXTS),  # reads other words, and sees embeddings alike
            (head, ROWS[::-1], TEXTS),
            (head, ROWS.astype(np.float64), TEXTS),
            (head, np.concatenate([ROWS[2:], -ROWS[:1]]), ["my card\0a loan", "", "trip"]),
        ):
            found = other.logits(rows, texts)
            wanted = other.scores(other.mapped(rows, texts))
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
            mapped.pop()  # by the line before
    assert mapped == [4, 4, 4, 1]


def test_rows_that_were_mapped_before_are_known_in_any_order_and_beside_others(mapped: list[int]) -> None:
    head, known = a_head(1), MappedRows()
    with mapped_once(known):
        head.logits(ROWS[:3], TEXTS[:3])
    alone, words = (
        head.logits(ROWS[::-1], TEXTS[::-1]),
        WordScores(np.ones((2, 12), np.float32), LexicalFeatures.of_size(12)),
    )
    of_words = words(TEXTS)
    mapped.clear()
    with mapped_once(known):
        np.testing.assert_allclose(head.logits(ROWS[::-1], TEXTS[::-1]), alone, rtol=0, atol=1e-12)
        np.testing.assert_allclose(words(TEXTS), of_words, rtol=0, atol=1e-6)
        assert head.logits(ROWS[:0], []).shape == (0, 2)
    assert mapped == [1]


def test_features_that_are_known_already_stand_for_the_rows(mapped: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = a_head(1), a_head(2)
    known = one.mapped(ROWS, TEXTS)
    note_mapped(one, ROWS, TEXTS, known)
    mapped.clear()
    with mapped_once():
        note_mapped(one, ROWS, TEXTS, known)
        assert np.array_equal(other.logits(ROWS, TEXTS), other.scores(known))
    assert mapped == []
    monkeypatch.setattr(module, "_MOST_KEPT", 0)
    with mapped_once():
        one.logits(ROWS, TEXTS)
        one.logits(ROWS, TEXTS)
    assert mapped == [4, 4], "more than memory is lent for"


def test_many_rows_are_mapped_in_blocks_and_those_that_fit_stay(
    mapped: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    head, known = a_head(1), MappedRows()
    rows = np.random.default_rng(1).standard_normal((7, 8)).astype(np.float32)
    texts = [f"card {row}" for row in range(6)] + ["card 0"]
    words, seen = LexicalFeatures.__call__, list[int]()

    def noted(self: LexicalFeatures, texts: Sequence[str]) -> NDArray[np.float64]:
        seen.append(len(texts))
        return words(self, texts)

    alone = head.logits(rows, texts)
    monkeypatch.setattr(LexicalFeatures, "__call__", noted)
    monkeypatch.setattr(module, "_AT_ONCE", 32)  # two rows of 16 features of embeddings, or of 12 of words
    monkeypatch.setattr(module, "_MOST_KEPT", 72)
    mapped.clear()
    with mapped_once(known):
        for mapped_now, seen_now in (([2, 2, 2, 1], [2, 2, 2, 1]), ([2, 1], [])):
            np.testing.assert_allclose(head.logits(rows, texts), alone, rtol=0, atol=1e-12)
            assert (mapped, seen) == (mapped_now, seen_now)
            mapped.clear()
            seen.clear()
