"""Answers that cost nothing, which a challenger is put beside."""

from datetime import UTC, datetime, timedelta

import numpy as np

from perennial.continual.quality.simple_answers import lexical_answers, majority_answers, moved_priors
from perennial.continual.records import Example

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _rows(pairs: list[tuple[str, str]]) -> list[Example]:
    return [
        Example(text=text, label=label, at=_NOW + timedelta(seconds=place)) for place, (text, label) in enumerate(pairs)
    ]


def test_the_commonest_label_wins_and_of_equals_the_first() -> None:
    rows = _rows([("1", "b"), ("2", "a"), ("3", "b"), ("4", "a")])
    assert majority_answers(rows, 3) == ["a"] * 3


def test_words_tell_labels_apart_and_the_oldest_of_many_rows_are_left_out() -> None:
    rng = np.random.default_rng(0)
    filler = ["please", "my", "the", "today", "again", "help"]

    def text(word: str) -> str:
        return " ".join([*rng.choice(filler, 3), word])

    old = [(text("card"), "old")] * 300
    fresh = [(text(word), label) for _ in range(1_000) for word, label in (("card", "lost"), ("loan", "money"))]
    rows = _rows(old + fresh)
    assert lexical_answers(rows, [text("card"), text("loan")]) == ["lost", "money"]


def test_a_version_answers_better_once_it_is_told_how_frequent_its_classes_became() -> None:
    rng = np.random.default_rng(1)
    truth = np.where(rng.random(2_000) < 0.9, "b", "a")
    sure = np.where(truth == "a", rng.beta(4, 2, 2_000), rng.beta(3, 3, 2_000))  # of "a"; it leans to it
    scores = [{"a": each, "b": 1.0 - each} for each in sure.tolist()]
    own = np.array([max(row, key=lambda name: row[name]) for row in scores])
    moved = np.array(moved_priors(scores, before=["a", "b"] * 50, after=truth[:200].tolist()))
    assert (moved == truth).mean() > (own == truth).mean() + 0.2
