"""Answers that are given again: of the same version, to the same text, for a while."""

import numpy as np
import pytest

from perennial.ops.serving.router.answer_cache import KEPT_S, AnswerCache
from perennial.ops.serving.tasks.text_classification import Classified


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _answer(label: str, scores: np.ndarray | None = None) -> Classified:
    scores = np.array([0.5, 0.5], dtype=np.float32) if scores is None else scores
    return Classified(label, 0.5, scores, ("no", "yes"), scores, 0.1, 0.2, 3)


def test_the_one_that_was_asked_for_longest_ago_goes_first() -> None:
    cache = AnswerCache(2)
    for text in ("a", "b"):
        cache.keep(1, text, _answer(text))
    assert cache.get(1, "a").label == "a"
    cache.keep(1, "c", _answer("c"))
    assert [cache.get(1, text) is not None for text in "abc"] == [True, False, True]
    assert cache.found == 3


@pytest.mark.parametrize(("passed_s", "kept"), [(KEPT_S, True), (KEPT_S + 0.1, False)])
def test_nothing_is_kept_for_longer_than_promised(passed_s: float, kept: bool) -> None:
    clock = Clock()
    cache = AnswerCache(2, clock)
    cache.keep(1, "a", _answer("a"))
    clock.now += passed_s
    assert (cache.get(1, "a") is not None) is kept


def test_what_nobody_asks_again_goes_in_time_too() -> None:
    clock = Clock()
    cache = AnswerCache(3, clock)
    cache.keep(1, "old", _answer("old"))
    clock.now += 1.0
    cache.keep(1, "young", _answer("young"))
    cache.get(1, "old")  # asked for last, and still computed first
    clock.now += KEPT_S - 0.5
    cache.forget_old()
    assert (len(cache), cache.get(1, "old")) == (1, None)
    assert cache.get(1, "young").label == "young"
    clock.now += 1.0
    cache.forget_old()
    assert len(cache) == 0


def test_an_answer_that_is_computed_again_is_young_again_and_kept_once() -> None:
    clock = Clock()
    cache = AnswerCache(2, clock)
    cache.keep(1, "a", _answer("a"))
    clock.now += KEPT_S - 1.0
    cache.keep(1, "b", _answer("b"))
    cache.keep(1, "a", _answer("again"))
    clock.now += 2.0
    assert (len(cache), cache.get(1, "a").label) == (2, "again")
    cache.keep(1, "c", _answer("c"))
    assert [cache.get(1, text) is not None for text in "abc"] == [True, False, True]
    clock.now += KEPT_S + 1.0
    cache.forget_old()
    assert len(cache) == 0


def test_a_kept_answer_holds_no_batchs_memory() -> None:
    batch = np.ones((64, 2), dtype=np.float32)
    cache = AnswerCache(1)
    cache.keep(1, "a", _answer("a", batch[3]))
    batch[:] = 0.0
    kept = cache.get(1, "a").scores
    assert kept.base is None
    assert kept.tolist() == [1.0, 1.0]


def test_what_is_no_text_and_all_where_none_are_wanted_is_not_kept() -> None:
    for cache, asked in ((AnswerCache(1), ("a",)), (AnswerCache(0), "a")):
        cache.keep(1, asked, _answer("a"))
        assert cache.get(1, asked) is None
