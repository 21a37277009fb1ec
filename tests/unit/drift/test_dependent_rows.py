"""Requests that repeat one another count once, and another mix of the same answers is told and no drift."""

from collections.abc import Callable

import numpy as np
import pytest

from perennial.continual.drift import DriftMonitor, DriftSettings, ReferenceProfile, Window, compare
from perennial.continual.drift.dependence import Counting, CountingRule
from perennial.continual.drift.matching import match_mix
from perennial.continual.drift.settings import Signal
from perennial.continual.errors import ConfigurationError

pytestmark = pytest.mark.slow


def counted(
    callers: list[str | None], texts: list[str], answers: list[str] | None = None, rule: CountingRule | None = None
) -> list[bool]:
    said: list[bool] = Counting(rule or CountingRule()).counted(callers, texts, answers or ["a"] * len(texts)).tolist()
    return said


@pytest.mark.parametrize(
    "again",
    [
        "Where is my card 4411?",
        "where is MY card 4412 ?",
        " where  is\tmy card?!",
        "我的卡在哪里",
        "🙂🙂",
    ],
)
def test_a_callers_retries_and_near_copies_count_once(again: str) -> None:
    first = again if not again.isascii() else "Where is my card 4411?"
    assert counted(["ann", "bob", "ann"], [first, "other", again]) == [True, True, False]


@pytest.mark.parametrize(
    ("callers", "texts", "answers"),
    [
        (["ann", "bob"], ["hi", "hi"], ["a", "a"]),  # two people
        (["ann", "ann"], ["hi", "bye"], ["a", "a"]),  # two things
        (["ann", "ann"], ["hi", "hi"], ["a", "b"]),  # two answers: a list that is new each time is no retry
        ([None, None], ["price 1 up", "price 2 up"], ["a", "a"]),  # of nobody only the same text is a copy
        (["ann", "ann"], ["12", "13"], ["a", "a"]),  # without words the text speaks
    ],
)
def test_what_is_no_copy_counts(callers: list[str | None], texts: list[str], answers: list[str]) -> None:
    assert counted(callers, texts, answers) == [True, True]


def test_a_copy_is_forgotten_after_so_many_requests() -> None:
    rule = CountingRule(copies_within=3)
    others = [f"other {'x' * n}" for n in range(1, 3)]
    assert counted(["ann"] * 4, ["hi", *others, "hi"], rule=rule) == [True, True, True, False]
    others = [f"other {'x' * n}" for n in range(1, 4)]
    assert counted(["ann"] * 5, ["hi", *others, "hi"], rule=rule)[-1]
    assert counted([None, None, None], ["hi", "there", "hi"], rule=rule) == [True] * 3  # a tenth of 3 is none


@pytest.mark.parametrize("rows", [100, 1_000])
def test_one_request_in_ten_counts_whatever_they_repeat(rows: int) -> None:
    assert sum(counted([None] * rows, ["ping"] * rows)) == rows // 10 + (rows % 10 > 0)


def test_a_loud_caller_has_its_share_among_many_and_more_among_few() -> None:
    callers = [f"p{n}" if n % 2 else "partner" for n in range(2_000)]
    texts = [f"{'x' * (n % 50)} {'y' * (n // 50)}" for n in range(2_000)]
    kept = counted(callers, texts)
    shares = [sum(k for k, c in zip(kept, callers, strict=True) if (c == "partner") is loud) for loud in (True, False)]
    assert shares[1] == 1_000
    assert 0.04 < shares[0] / sum(shares) < 0.12  # 5%, and one in ten always
    two = ["web", "app"] * 500
    assert all(counted(two, texts[:1_000]))


@pytest.mark.parametrize("wrong", [{"copies_within": -1}, {"caller_share": 0.0}, {"caller_share": 1.5}])
def test_a_rule_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="give at least 0"):
        CountingRule(**wrong)  # type: ignore[arg-type]


def test_what_counts_depends_on_the_past_alone() -> None:
    rng = np.random.default_rng(3)
    callers = [f"p{n}" for n in rng.integers(0, 30, 3_000)]
    texts = [f"word{chr(97 + n)}" for n in rng.integers(0, 20, 3_000)]
    whole = counted(list(callers), texts, rule=CountingRule(copies_within=200))
    memory = CountingRule(copies_within=200).memory
    later = counted(
        list(callers[1_500 - 4 * memory :]), texts[1_500 - 4 * memory :], rule=CountingRule(copies_within=200)
    )
    assert later[4 * memory :] == whole[1_500:]


def classes(weights: list[float], rows: int, rng: np.random.Generator, *, shift: float = 0.0) -> Window:
    """Answers of classes with their own confidence, length, words and place in the embedding's space."""
    chosen = rng.choice(len(weights), rows, p=np.array(weights) / sum(weights))
    confidence = np.clip(rng.normal(0.65 + 0.03 * chosen, 0.05) - shift, 0.01, 0.99)
    places = np.eye(12)[chosen] * 3 + rng.normal(size=(rows, 12)) + shift * 4
    return Window.from_columns(
        {
            "text": [f"about {'abcdefghijkl'[c] * 4} " + "more " * int(c + rng.integers(3)) for c in chosen],
            "prediction": [f"class {c}" for c in chosen],
            "confidence": confidence,
            "margin": confidence / 2,
            "entropy": 1 - confidence,
            "version": np.ones(rows, dtype=np.int64),
            "embedding": places.astype(np.float16),
        }
    )


DAY, NIGHT = [3.0] * 6 + [1.0] * 6, [1.0] * 6 + [3.0] * 6


def watched(reference: list[float], windows: list[Callable[[np.random.Generator], Window]], **rule: bool) -> list[str]:
    rng = np.random.default_rng(5)
    profile = ReferenceProfile.build(classes(reference, 600, rng), version=1, rng=rng)
    settings = DriftSettings(**rule)  # type: ignore[arg-type]
    monitor = DriftMonitor(settings=settings)
    state, said = monitor.start(1), []
    for number, make in enumerate(windows, 1):
        state, signal = monitor.update(state, compare(profile, make(rng), settings, rng), number * 300)
        said.append("alert" if signal.alert else "mix" if signal.mix else "")
    return said


def night(rng: np.random.Generator) -> Window:
    return classes(NIGHT, 300, rng)


def day(rng: np.random.Generator) -> Window:
    return classes(DAY, 300, rng)


def test_a_mix_that_turns_is_told_once_and_no_alert_and_told_again_when_it_returns() -> None:
    said = watched(DAY, [day, night, night, night, day, day, day, night, night])
    assert said == ["", "", "mix", "", "", "", "", "", "mix"]


def test_a_mix_that_turns_is_an_alert_where_that_is_asked_for() -> None:
    assert watched(DAY, [day, night, night], mix_votes=True)[-1] == "alert"


def test_what_changes_beside_the_mix_is_an_alert() -> None:
    assert watched(DAY, [night, lambda rng: classes(NIGHT, 300, rng, shift=0.12)] * 2 + [night])[3] == "alert"


def test_answers_of_which_too_few_are_common_to_both_sides_are_drift() -> None:
    only = [0.0] * 12
    only[11] = 1.0
    assert watched([1.0] * 11 + [0.02], [lambda rng: classes(only, 300, rng)] * 2)[-1] == "alert"


def test_samples_that_differ_by_chance_alone_stay_whole() -> None:
    rng = np.random.default_rng(9)
    kept = [
        match_mix(rng.choice(list("abcdefghij"), 600), rng.choice(list("abcdefghij"), 300), rng).share
        for _ in range(200)
    ]
    assert np.mean(kept) > 0.97


@pytest.mark.parametrize(("before", "after"), [(DAY, NIGHT), (NIGHT, DAY), ([1.0] * 12, DAY)])
def test_matched_rows_have_one_mix(before: list[float], after: list[float]) -> None:
    rng = np.random.default_rng(9)
    sides = [rng.choice(12, rows, p=np.array(w) / sum(w)).astype(str) for rows, w in ((600, before), (300, after))]
    matched = match_mix(sides[0], sides[1], rng)
    halves = [
        np.isin(side[rows], list("012345")).mean()
        for side, rows in zip(sides, (matched.reference, matched.current), strict=True)
    ]
    assert abs(halves[0] - halves[1]) < 0.06
    assert matched.share > 0.45


def test_unknown_words_are_measured_on_the_matched_rows_too() -> None:
    rng = np.random.default_rng(5)
    profile = ReferenceProfile.build(classes(DAY, 600, rng), version=1, rng=rng)
    some = profile.of_rows(np.arange(0, 600, 3))
    assert some.unknown_places is not None
    assert len(some.sample) == 200
    shares = some.unknown_shares_of(some.sample.rows(some.unknown_places))
    assert shares.tolist() == some.unknown_shares.tolist()
    compared = compare(profile, classes(NIGHT, 300, rng), DriftSettings(), rng)
    assert compared.matched
    assert compared.mix_moved
    assert {each.signal for each in compared.signals if each.drifted} == {Signal.PREDICTION}
