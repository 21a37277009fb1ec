"""Lists beside what proved relevant: figures over rows, users, segments, and items that nobody had liked."""

import numpy as np
import pytest

from perennial.continual.learning.ranking.proof import ProvedList, prove_lists
from perennial.continual.tasks.ranking import Ranking


def row(user: str, items: str, relevant: str, *, popular: str = "zyx", segment: str = "all") -> ProvedList:
    worth = dict.fromkeys(relevant, 1.0)
    return ProvedList(user=user, segment=segment, items=tuple(items), popular=tuple(popular), relevances=worth)


def test_figures_are_means_over_rows_and_intervals_draw_users() -> None:
    rows = [row("u", "abc", "b"), row("u", "abc", "c"), row("v", "abc", "z"), row("w", "abc", "")]
    proof = prove_lists(rows, {"a": 1.0}, np.random.default_rng(0))
    assert proof is not None
    score = Ranking().score
    expected = [score("abc", {"b": 1.0}), score("abc", {"c": 1.0}), 0.0]
    assert (proof.rows, proof.users) == (3, 2)
    assert proof.ndcg_10.mean == pytest.approx(np.mean(expected))
    assert proof.hit_rate_10.mean == pytest.approx(2 / 3)
    assert proof.ndcg_10.low == 0.0, "some draws hold nobody but v"
    assert proof.popular_ndcg_10 == pytest.approx(1 / 3)
    assert proof.ahead.mean == pytest.approx(np.mean(expected) - 1 / 3)


def test_cold_rows_are_those_of_which_nobody_had_liked_anything() -> None:
    rows = [row("u", "ab", "a"), row("v", "ab", "b"), row("w", "ba", "ab")]
    proof = prove_lists(rows, {"a": 2.0, "b": 0.0}, np.random.default_rng(0))
    assert proof is not None
    assert (proof.cold_rows, proof.cold_hit_rate_10) == (1, 1.0)
    assert proof.cold_ndcg_10 == pytest.approx(Ranking().score("ab", {"b": 1.0}))
    warm = prove_lists(rows, {"a": 2.0, "b": 1.0}, np.random.default_rng(0))
    assert warm is not None
    assert (warm.cold_rows, warm.cold_ndcg_10) == (0, None)


def test_segments_are_told_where_there_are_several_the_worst_first() -> None:
    rows = [row("u", "ab", "a", segment="new"), row("v", "ab", "z", segment="old"), row("w", "ab", "b", segment="old")]
    proof = prove_lists(rows, {}, np.random.default_rng(0))
    assert proof is not None
    assert [(one.segment, one.rows) for one in proof.segments] == [("old", 2), ("new", 1)]
    one_segment = prove_lists(rows[:1], {}, np.random.default_rng(0))
    assert one_segment is not None
    assert one_segment.segments == ()


def test_nothing_liked_proves_nothing() -> None:
    assert prove_lists([row("u", "ab", "")], {}, np.random.default_rng(0)) is None
