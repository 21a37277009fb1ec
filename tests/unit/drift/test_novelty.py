"""How many requests are new: evidence that keeps its run length, finds what is new, and knows days and weeks."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from perennial.continual.drift import DriftComparison, DriftMonitor, DriftSettings, Level, ReferenceProfile, Window
from perennial.continual.drift.novelty import NoveltyState, with_novelty
from perennial.continual.drift.seasons import Phase

_CLASSES, _DIMENSION, _ROWS = 4, 8, 100
_CENTRES = np.random.default_rng(5).normal(size=(2 * _CLASSES, _DIMENSION)) * 3.0


def window(rows: int, rng: np.random.Generator, *, new: float = 0.0, mix: NDArray[np.float64] | None = None) -> Window:
    """Answered requests of four classes that differ in doubt, a share of them about four others."""
    truth = rng.choice(_CLASSES, rows, p=mix)
    strange = rng.random(rows) < new
    embeddings = _CENTRES[truth + _CLASSES * strange] + rng.normal(size=(rows, _DIMENSION))
    entropies = rng.gamma(2.0, 0.1 * (1 + truth)) + 0.5 * strange * rng.random(rows)
    return Window.from_columns(
        {
            "text": [""] * rows,
            "prediction": [f"class {number}" for number in truth],
            "version": [1] * rows,
            "entropy": entropies,
            "embedding": embeddings.astype(np.float32),
        }
    )


def begun(rng: np.random.Generator, *, run_length: float, rows: int = 400) -> tuple[ReferenceProfile, NoveltyState]:
    reference = ReferenceProfile.build(window(rows, rng), version=1, rng=rng)
    state = NoveltyState.begun(reference, run_length=run_length)
    assert state is not None
    return reference, state


def goes_on(
    state: NoveltyState, reference: ReferenceProfile, current: Window, rng: np.random.Generator
) -> NoveltyState:
    places = state.scored(reference, current)
    assert places is not None
    return state.followed(places, current, rng)


def compared() -> DriftComparison:
    return DriftComparison(version=1, n_reference=400, n_current=_ROWS, alpha=0.02, permutations=99, seed=1, signals=())


def test_alarms_come_no_more_often_than_the_run_length_whatever_the_mix() -> None:
    """Half of the classes come and go, and doubt differs between classes: 20,000 requests, at most 20 false alarms."""
    rng = np.random.default_rng(7)
    alarms, mixes = 0, (np.array([0.4, 0.4, 0.1, 0.1]), np.array([0.1, 0.1, 0.4, 0.4]))
    for _ in range(4):
        reference, state = begun(rng, run_length=1_000.0)
        for number in range(50):
            state = goes_on(state, reference, window(_ROWS, rng, mix=mixes[number // 10 % 2]), rng)
        alarms += state.detector.alarms
    assert alarms <= 20


def test_new_requests_are_found_although_the_run_length_is_long() -> None:
    rng = np.random.default_rng(11)
    reference, state = begun(rng, run_length=1e6)
    for _ in range(10):
        state = goes_on(state, reference, window(_ROWS, rng), rng)
    assert not state.alarmed
    for _ in range(8):
        state = goes_on(state, reference, window(_ROWS, rng, new=0.15), rng)
    assert state.detector.alarms


def test_an_alarm_holds_the_counts_and_ends_with_what_raised_it() -> None:
    rng = np.random.default_rng(13)
    reference, state = begun(rng, run_length=1_000.0)
    while not state.alarmed:
        state = goes_on(state, reference, window(_ROWS, rng, new=0.5), rng)
    held = state.counts
    for _ in range(3):
        state = goes_on(state, reference, window(_ROWS, rng, new=0.5), rng)
        assert state.alarmed
    assert state.counts == held
    for _ in range(5):
        state = goes_on(state, reference, window(_ROWS, rng), rng)
    assert not state.alarmed
    assert sum(map(sum, state.counts.values())) > sum(map(sum, held.values()))


@pytest.mark.parametrize("share", [0.3, 0.0], ids=["as new then", "nothing new then"])
def test_what_was_as_new_in_the_same_hours_before_raises_nothing(share: float) -> None:
    rng = np.random.default_rng(17)
    reference, state = begun(rng, run_length=1_000.0)
    day = Phase(
        rows=window(2 * _ROWS, rng, new=share), between=(window(_ROWS, rng), window(_ROWS, rng)), like_since=True
    )
    novel = []
    for _ in range(6):
        current = window(_ROWS, rng, new=0.3)
        state, comparison = with_novelty(compared(), state, reference, current, lambda: {"a day": day}, rng)
        novel.append(comparison.novel)
    assert any(novel) is (share == 0.0)


def test_what_lasts_is_no_season_however_new_it_was_the_day_before() -> None:
    rng = np.random.default_rng(19)
    reference, state = begun(rng, run_length=1_000.0)
    new = [window(2 * _ROWS, rng, new=0.3) for _ in range(3)]
    day = Phase(rows=new[0], between=tuple(new[1:]), like_since=True)
    novel = []
    for _ in range(6):
        current = window(_ROWS, rng, new=0.3)
        state, comparison = with_novelty(compared(), state, reference, current, lambda: {"a day": day}, rng)
        novel.append(comparison.novel)
    assert any(novel)


def test_a_declared_phase_that_was_not_seen_once_raises_nothing() -> None:
    rng = np.random.default_rng(23)
    phases: Mapping[str, Phase] = {"a day": Phase(rows=None)}
    for declared in (True, False):
        reference, state = begun(rng, run_length=1_000.0)
        novel = []
        for _ in range(6):
            current = window(_ROWS, rng, new=0.4)
            state, comparison = with_novelty(
                compared(), state, reference, current, lambda: phases, rng, declared=declared
            )
            novel.append(comparison.novel)
        assert any(novel) is not declared


def test_rare_answers_share_one_rank_and_what_is_remembered_is_bounded() -> None:
    names = [f"class {number}" for number in range(700) for _ in range(8)] + ["rare"] * 7
    entropies = np.random.default_rng(3).random(len(names))
    rows = Window.from_columns(
        {"text": [""] * len(names), "prediction": names, "version": [1] * len(names), "entropy": entropies}
    )
    reference = ReferenceProfile.build(rows, version=1, rng=np.random.default_rng(3), rows=len(names))
    state = NoveltyState.begun(reference, run_length=1_000.0)
    assert state is not None
    assert len(state.counts) == 501
    assert "rare" not in state.counts
    assert sum(map(sum, state.counts.values())) == len(names)


def test_what_has_neither_entropy_nor_embedding_is_not_followed() -> None:
    bare = Window.from_columns({"text": ["a"] * 40, "prediction": ["x"] * 40, "version": [1] * 40})
    reference = ReferenceProfile.build(bare, version=1, rng=np.random.default_rng(1))
    assert NoveltyState.begun(reference, run_length=1_000.0) is None
    rng = np.random.default_rng(29)
    known, state = begun(rng, run_length=1_000.0)
    assert state.scored(known, bare) is None
    assert with_novelty(compared(), state, known, bare, dict, rng) == (state, compared())


def test_new_requests_alert_at_once_and_hold_the_episode() -> None:
    monitor = DriftMonitor(settings=DriftSettings(cooldown_requests=_ROWS))
    state, levels = monitor.start(1), []
    for number, novel in enumerate([False, True, True, True, False], start=1):
        state, signal = monitor.update(state, replace(compared(), novel=novel), number * _ROWS)
        levels.append(signal.level)
        if novel:
            assert "new to the version" in signal.reason
    assert levels == [Level.OK, Level.ALERT, Level.ALERT, Level.ALERT, Level.OK]
    assert state.episode == 1
