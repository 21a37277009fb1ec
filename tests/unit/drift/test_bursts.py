"""Requests that one caller sends in a burst are about one thing: p-values and evidence take them as one look."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from perennial.continual.drift import DriftSettings, ReferenceProfile, Window, compare
from perennial.continual.drift.dependence import bursts_of
from perennial.continual.drift.novelty import NoveltyState
from perennial.continual.drift.statistics import chi_square, classifier_auc, ks, rff_mmd, wasserstein
from perennial.continual.drift.statistics.permutation import exchanged, in_bursts

ROWS_OF_BURST = 5
LEVEL = 0.1


def test_a_caller_has_a_burst_in_each_stretch_and_nobody_has_none():
    callers = ["ann", None, "ann", None] * 20
    bursts = bursts_of(callers)
    assert len(set(bursts[[place for place, one in enumerate(callers) if one is None]])) == 40
    assert [len(set(part[::2])) for part in (bursts[:50], bursts[50:])] == [1, 1]
    assert bursts[0] != bursts[50]


def test_bursts_change_sides_whole_and_sides_keep_their_sizes():
    rng = np.random.default_rng(1)
    bursts = np.repeat(np.arange(30), rng.integers(1, 6, 30))
    member = np.arange(len(bursts)) < 40
    sides = exchanged(member, bursts, rng, 200)
    assert (sides.sum(axis=1) == 40).all()
    cut = [sum(0 < side[bursts == one].mean() < 1 for one in range(30)) for side in sides]
    assert max(cut) == 1
    assert np.ptp(sides.mean(axis=0)) < 0.35, "every row is on either side now and then"


def test_rows_of_their_own_are_no_bursts():
    assert in_bursts(np.arange(4), np.arange(3)) is None


def numbers(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose bursts have a mean of their own."""
    bursts = np.arange(rows) // ROWS_OF_BURST
    return rng.normal(size=int(bursts.max()) + 1)[bursts] + 0.3 * rng.normal(size=rows), bursts


def p_of_numbers(test: Callable[..., object]) -> Callable[[np.random.Generator, bool], float]:
    def p(rng: np.random.Generator, told: bool) -> float:
        (a, of_a), (b, of_b) = numbers(rng, 150), numbers(rng, 100)
        return test(a, b, rng=rng, permutations=99, bursts=in_bursts(of_a, of_b) if told else None).p_value

    return p


def p_of_rows(test: Callable[..., object]) -> Callable[[np.random.Generator, bool], float]:
    def p(rng: np.random.Generator, told: bool) -> float:
        columns = [[numbers(rng, rows) for _ in range(4)] for rows in (150, 100)]
        a, b = (np.stack([one for one, _ in side], axis=1).astype(np.float32) for side in columns)
        bursts = in_bursts(columns[0][0][1], columns[1][0][1]) if told else None
        return test(a, b, rng=rng, permutations=99, bursts=bursts).p_value

    return p


def p_of_answers(rng: np.random.Generator, told: bool) -> float:
    (a, of_a), (b, of_b) = numbers(rng, 150), numbers(rng, 100)
    named = [np.round(side).astype(int).astype(str) for side in (a, b)]
    return chi_square(*named, rng=rng, permutations=99, bursts=in_bursts(of_a, of_b) if told else None).p_value


@pytest.mark.parametrize(
    "p",
    [p_of_numbers(ks), p_of_numbers(wasserstein), p_of_answers, p_of_rows(rff_mmd), p_of_rows(classifier_auc)],
    ids=["ks", "wasserstein", "chi_square", "rff_mmd", "classifier_auc"],
)
def test_rows_in_bursts_alarm_as_often_as_the_level_says(p):
    rates = {}
    for told in (False, True):
        rng = np.random.default_rng(5)
        rates[told] = np.mean([p(rng, told) <= LEVEL for _ in range(60)])
    assert rates[True] <= LEVEL + 0.1  # 2.6 standard errors
    assert rates[False] > 0.3, "the rows alone would alarm"


def traffic(rng: np.random.Generator, rows: int, *, shift: float = 0.0) -> tuple[Window, np.ndarray]:
    entropies, bursts = numbers(rng, rows)
    return Window.from_columns(
        {"text": ["a"] * rows, "prediction": ["x"] * rows, "version": [3] * rows, "entropy": entropies + shift}
    ), bursts


def test_a_window_of_bursts_is_compared_by_bursts_and_a_real_change_is_found(tmp_path):
    rng = np.random.default_rng(2)
    first, of_first = traffic(rng, 600)
    told = ReferenceProfile.build(replace(first, bursts=of_first), version=3, rng=rng)
    told.save(tmp_path / "reference")
    told = ReferenceProfile.load(tmp_path / "reference")  # numbers of bursts are kept, and no caller
    alarms = {True: 0, False: 0}
    for _ in range(12):
        window, bursts = traffic(rng, 200)
        for by in alarms:
            reference = told if by else replace(told, sample=replace(told.sample, bursts=None))
            current = replace(window, bursts=bursts) if by else window
            alarms[by] += compare(reference, current, DriftSettings(), rng).drifted
    assert alarms[True] == 0 < alarms[False]
    changed, bursts = traffic(rng, 200, shift=1.5)
    assert compare(told, replace(changed, bursts=bursts), DriftSettings(), rng).drifted


def test_evidence_of_new_requests_counts_a_burst_once():
    rng = np.random.default_rng(3)
    first, _ = traffic(rng, 600)
    reference = ReferenceProfile.build(first, version=3, rng=rng)
    state = NoveltyState.begun(reference, run_length=1e6)
    strange, _ = traffic(rng, 100, shift=6.0)
    alone = state.followed(state.scored(reference, strange), strange, np.random.default_rng(1))
    one = replace(strange, bursts=np.zeros(100, dtype=np.int64))
    together = state.followed(state.scored(reference, one), one, np.random.default_rng(1))
    assert (alone.alarmed, together.alarmed) == (True, False)
    assert together.detector.seen == 1
