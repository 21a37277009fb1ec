"""What an explanation says in words: shares, order and size of what is shown, worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from perennial.continual.drift import DriftComparison, ReferenceProfile, Signal, SignalResult, Window
from perennial.continual.drift.explain import explain, word_shifts
from perennial.continual.drift.statistics import StatisticResult

KNOWN = np.eye(8)[:4]  # where the reference's texts lie, each a little apart


def window(texts: list[str], points: list[list[float]] | np.ndarray | None, **changes: object) -> Window:
    n = len(texts)
    given: dict[str, object] = {
        "text": texts,
        "prediction": ["a"] * n,
        "confidence": [0.9] * n,
        "margin": [0.5] * n,
        "entropy": [0.5] * n,
        "version": [1] * n,
        "embedding": None if points is None else np.asarray(points, dtype=np.float32),
    }
    return Window.from_columns(given | changes)


def reference(rows: int = 40, **changes: object) -> ReferenceProfile:
    points = KNOWN[np.arange(rows) % 4] + 0.01 * np.random.default_rng(1).normal(size=(rows, 8))
    given = window([f"card lost {'today' if i % 2 else 'again'}" for i in range(rows)], points, **changes)
    return ReferenceProfile.build(given, version=1, rng=np.random.default_rng(1))


def comparison_of(*drifted: Signal, rows: int = 40) -> DriftComparison:
    signals = tuple(
        SignalResult(
            signal=signal,
            method="ks",
            result=StatisticResult(statistic=0.5, p_value=0.001, effect=0.3, floor=0.1, n_reference=40, n_current=rows),
            adjusted_p=0.002,
            drifted=signal in drifted,
        )
        for signal in (Signal.CONFIDENCE, Signal.LENGTH)
    )
    return DriftComparison(
        version=1, n_reference=40, n_current=rows, alpha=0.02, permutations=99, seed=1, signals=signals
    )


def unknown(rows: int, place: int, word: str) -> tuple[list[str], np.ndarray]:
    points = np.eye(8)[[place] * rows] + 0.01 * np.random.default_rng(place).normal(size=(rows, 8))
    return [f"the {word} house number{chr(97 + i % 26)}" for i in range(rows)], points


def mixed(*groups: tuple[list[str], np.ndarray], known: int = 20) -> Window:
    texts = [f"card lost {'today' if i % 2 else 'again'}" for i in range(known)]
    points = [KNOWN[np.arange(known) % 4]]
    for words, place in groups:
        texts += words
        points.append(place)
    return window(texts, np.concatenate(points))


def test_words_are_compared_by_the_texts_that_hold_them() -> None:
    found = {s.word: s for s in word_shifts(["aa bb", "aa aa", "bb", "cc"], ["aa", "dd dd"])}
    assert {w: (s.reference_share, s.current_share) for w, s in found.items()} == {
        "aa": (0.5, 0.5),
        "bb": (0.5, 0.0),
        "cc": (0.25, 0.0),
        "dd": (0.0, 0.5),
    }
    pooled = (2 + 0 + 1) / (6 + 2)
    assert found["bb"].z == pytest.approx(-0.5 / math.sqrt(pooled * (1 - pooled) * (1 / 4 + 1 / 2)))
    pooled = (0 + 1 + 1) / (6 + 2)
    assert found["dd"].z == pytest.approx(0.5 / math.sqrt(pooled * (1 - pooled) * (1 / 4 + 1 / 2)))
    assert list(found) == ["dd", "aa", "cc", "bb"]
    assert word_shifts([], []) == []
    assert [s.word for s in word_shifts([], ["bb aa"])] == ["aa", "bb"]


def test_words_that_hardly_moved_are_not_shown_and_the_strongest_come_first() -> None:
    current = mixed(unknown(20, 5, "mortgage"), known=4)
    shown = explain(reference(), current, comparison_of(Signal.CONFIDENCE), np.random.default_rng(1), most=3)
    assert [shift.word for shift in shown.rose] == ["house", "mortgage", "the"]
    assert {shift.word for shift in shown.fell[:2]} == {"card", "lost"}
    assert [shift.z for shift in shown.fell] == sorted(shift.z for shift in shown.fell)
    assert all(shift.z > 2 for shift in shown.rose)
    assert all(shift.z < -2 for shift in shown.fell)
    clean = explain(reference(), mixed(), comparison_of(), np.random.default_rng(1))
    assert (clean.rose, clean.fell) == ((), ())


def test_groups_of_unknown_texts_are_named_by_their_own_words_and_told_in_numbers() -> None:
    texts, points = unknown(12, 5, "mortgage")
    current = mixed((texts, points), unknown(6, 6, "weather"), known=22)
    current = replace(
        current,
        confidences=np.array([0.9] * 22 + [0.25, 0.75] * 6 + [0.4] * 6, np.float32),
        predictions=np.array(["a"] * 22 + ["b"] * 7 + ["c"] * 3 + ["d"] * 1 + ["e"] * 1 + ["a"] * 6),
    )
    shown = explain(reference(), current, comparison_of(Signal.CONFIDENCE, rows=40), np.random.default_rng(1))
    first, second = shown.groups
    assert (first.rows, first.share, first.mean_confidence) == (12, 0.3, 0.5)
    assert (second.rows, second.share, second.mean_confidence) == (6, 0.15, pytest.approx(0.4))
    assert first.name.startswith("house_mortgage_number")
    assert first.words[:2] == ("house", "mortgage")
    assert len(first.words) == 5
    assert first.answered_as == ("b", "c", "d")
    assert len(first.texts) == 5
    assert set(first.texts) <= set(texts)
    near = np.argsort(-(points / np.linalg.norm(points, axis=1, keepdims=True)) @ _centre(points))
    assert first.texts[0] == texts[int(near[0])]
    assert second.words[:2] == ("house", "weather")
    assert shown.summary == f"confidence drifted in 40 rows; largest unknown group: {first.name} (12)"


def _centre(points: np.ndarray) -> np.ndarray:
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).mean(axis=0)


@pytest.mark.parametrize(("rows", "groups"), [(4, 0), (5, 1)])
def test_fewer_than_five_unknown_texts_are_no_group(rows: int, groups: int) -> None:
    current = mixed(unknown(rows, 5, "mortgage"))
    assert len(explain(reference(), current, comparison_of(), np.random.default_rng(1)).groups) == groups


@pytest.mark.parametrize(("rows", "groups"), [(2, 1), (3, 2)])
def test_fewer_than_three_texts_alike_are_no_group(rows: int, groups: int) -> None:
    current = mixed(unknown(8, 5, "mortgage"), unknown(rows, 6, "weather"))
    assert len(explain(reference(), current, comparison_of(), np.random.default_rng(1)).groups) == groups


def test_texts_answered_in_doubt_are_unknown_wherever_they_lie() -> None:
    current = mixed(known=20)
    doubtful = replace(current, confidences=np.array([0.49] * 8 + [0.5] * 12, np.float32))
    known = explain(reference(), current, comparison_of(), np.random.default_rng(1)).groups
    shown = explain(reference(), doubtful, comparison_of(), np.random.default_rng(1)).groups
    assert known == ()
    assert sum(group.rows for group in shown) == 0 or all(group.mean_confidence < 0.5 for group in shown)


def test_the_strangest_texts_come_first_each_once() -> None:
    far = window(
        ["near", "far", "farther", "far", "near"],
        np.stack([np.eye(8)[0], [1, 0, 0, 0, 1, 0, 0, 0], np.eye(8)[6], [1, 0, 0, 0, 1, 0, 0, 0], np.eye(8)[1]]),
    )
    shown = explain(reference(), far, comparison_of(), np.random.default_rng(1), most=3)
    assert shown.texts[:2] == ("farther", "far")
    assert len(shown.texts) == 3
    doubtful = window(["sure", "unsure", "middle"], None, confidence=[0.9, 0.2, 0.5])
    assert explain(reference(), doubtful, comparison_of(), np.random.default_rng(1)).texts == (
        "unsure",
        "middle",
        "sure",
    )


def test_slices_tell_shares_of_every_row_and_how_confidence_moved() -> None:
    before = reference(prediction=["a"] * 30 + ["b"] * 10, confidence=[0.8] * 30 + [0.6] * 10)
    after = window(["x"] * 8, None, prediction=["a"] * 2 + ["b"] * 4 + ["c"] * 2, confidence=[0.5] * 4 + [0.9] * 4)
    shown = explain(before, after, comparison_of(), np.random.default_rng(1)).slices
    assert [(s.label, s.reference_share, s.current_share) for s in shown] == [
        ("a", 0.75, 0.25),
        ("b", 0.25, 0.5),
        ("c", 0.0, 0.25),
    ]
    assert [s.confidence_change for s in shown] == pytest.approx([0.5 - 0.8, 0.7 - 0.6, 0.0])
    assert len(explain(before, after, comparison_of(), np.random.default_rng(1), most=2).slices) == 2


def test_a_summary_names_what_drifted_and_signals_are_in_floors() -> None:
    clean = mixed()
    assert (
        explain(reference(), clean, comparison_of(), np.random.default_rng(1)).summary == "nothing drifted in 40 rows"
    )
    both = explain(reference(), clean, comparison_of(Signal.CONFIDENCE, Signal.LENGTH), np.random.default_rng(1))
    assert both.summary == "confidence, length drifted in 40 rows"
    assert both.signals == ((Signal.CONFIDENCE, 0.002, pytest.approx(3.0)), (Signal.LENGTH, 0.002, pytest.approx(3.0)))
    assert both.to_json()["signals"][1][0] == "length"


def test_of_many_rows_two_thousand_are_read() -> None:
    many = window([f"word{i}" for i in range(2_001)], None)
    shown = explain(reference(), many, comparison_of(), np.random.default_rng(1), most=5_000)
    assert len(shown.texts) == len(set(shown.texts)) == 2_000
    few = window([f"word{i}" for i in range(2_000)], None)
    assert len(explain(reference(), few, comparison_of(), np.random.default_rng(1), most=5_000).texts) == 2_000
    assert len(explain(reference(), few, comparison_of(), np.random.default_rng(1)).texts) == 8


def test_texts_of_a_reference_that_were_pruned_are_not_taken_for_empty_ones() -> None:
    whole = reference()
    pruned = replace(whole, sample=whole.sample.without_texts())
    assert explain(pruned, mixed(), comparison_of(), np.random.default_rng(1)).rose == ()


def test_short_words_and_stop_words_name_no_group() -> None:
    texts = [f"ab the abc please my loan{chr(97 + i)}" for i in range(6)]
    current = mixed((texts, unknown(6, 5, "x")[1]))
    group = explain(reference(), current, comparison_of(), np.random.default_rng(1)).groups[0]
    assert group.words[0] == "abc"
    assert all(word == "abc" or word.startswith("loan") for word in group.words)
