"""Figures of answers, baselines beside them, and the sentence that says who wins."""

from datetime import UTC, datetime

import numpy as np
import pytest

from perennial.continual.errors import DataError
from perennial.continual.quality import (
    BaselineFigures,
    HeldOutAnswers,
    judge_answers,
    majority_baseline,
    plain_verdict,
    tfidf_baseline,
)
from perennial.continual.records import Example

AT = datetime(2026, 1, 1, tzinfo=UTC)


def example(text: str, label: str) -> Example:
    return Example(text=text, label=label, at=AT)


def answers(rows: list[tuple[str, str, float]]) -> HeldOutAnswers:
    return HeldOutAnswers(
        ids=tuple(range(len(rows))),
        labels=tuple(label for label, _, _ in rows),
        given=tuple(given for _, given, _ in rows),
        confidence=tuple(sure for _, _, sure in rows),
    )


def test_figures_name_the_worst_classes_and_the_most_confused_pairs() -> None:
    rows = [("a", "a", 0.9)] * 8 + [
        ("b", "a", 0.6),
        ("b", "a", 0.8),
        ("b", "b", 0.7),
        ("c", "b", 0.5),
        ("gone", "a", 0.9),
    ]
    judged = judge_answers(answers(rows), ["a", "b", "c"], lambda ids: {n: f"text {n}" for n in ids})
    assert judged.accuracy == pytest.approx(9 / 13)
    assert judged.low < judged.accuracy < judged.high
    assert judged.missing_class_rows == 1
    assert [(w.label, w.rows, round(w.recall, 2)) for w in judged.worst] == [
        ("c", 1, 0.0),
        ("gone", 1, 0.0),
        ("b", 3, 0.33),
    ]
    first = judged.confused[0]
    assert (first.label, first.answered, first.rows) == ("b", "a", 2)
    assert first.examples == ("text 9", "text 8")  # the surest first


def test_answers_must_be_as_many_as_rows() -> None:
    with pytest.raises(DataError, match="as many of each"):
        HeldOutAnswers(ids=(1,), labels=(), given=("a",), confidence=(0.5,))


@pytest.mark.parametrize(
    "words", [("card gone", "fee high"), ("卡丢了", "费用太高"), ("🙂🙂", "🙁🙁")], ids=["en", "zh", "emoji"]
)
def test_word_and_letter_counts_learn_any_script(words: tuple[str, str]) -> None:
    rng = np.random.default_rng(0)
    train = [example(f"{words[n % 2]} {'.' * int(rng.integers(3))}", "ab"[n % 2]) for n in range(40)]
    baseline = tfidf_baseline(train, [example(words[0], "a"), example(words[1], "b")])
    assert (baseline.accuracy, baseline.learnt) == (1.0, 40)
    assert majority_baseline([*train, example("x", "b")], train).accuracy == 0.5


@pytest.mark.parametrize("classes", [2, 3, 40])
def test_baselines_answer_any_number_of_classes(classes: int) -> None:
    train = [example(f"word{n % classes} and more", f"class {n % classes}") for n in range(classes * 5)]
    assert tfidf_baseline(train, train[:classes]).accuracy == 1.0


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ((True,) * 80 + (False,) * 20, (True,) * 51 + (False,) * 49, "The model is ahead of word and letter counts"),
        ((True,) * 51 + (False,) * 49, (True,) * 80 + (False,) * 20, "THE BASELINE WINS: word and letter counts"),
        ((True,) * 80 + (False,) * 20, (True,) * 79 + (False,) * 20 + (True,), "The model is level with word"),
        ((True,) * 80 + (False,) * 20, (True,) * 80 + (False,) * 20, "The model is level with word"),
        ((False,), (False,), "The model is level with word"),
    ],
)
def test_the_verdict_says_plainly_who_wins(ours: tuple[bool, ...], theirs: tuple[bool, ...], words: str) -> None:
    share = sum(theirs) / len(theirs)
    beside = BaselineFigures(name="tf-idf", learnt=9, accuracy=share, macro_f1=share, right=theirs)
    weak = BaselineFigures(name="majority", learnt=9, accuracy=-1.0, macro_f1=0.0, right=(False,) * len(theirs))
    assert plain_verdict(ours, [weak, beside]).startswith(words)
