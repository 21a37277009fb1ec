import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.continual.drift import (
    DriftComparison,
    DriftMonitor,
    DriftSettings,
    Level,
    MonitorState,
    Signal,
    SignalResult,
    Votes,
)
from perennial.continual.drift.sequential import EDetector, EDetectorState, abstained, doubt, errors, upper_bound
from perennial.continual.drift.statistics import StatisticResult
from perennial.continual.errors import DataError

ROWS = 300


def _comparison(drifted: bool, *, adjusted_p: float | None = None, version: int = 1) -> DriftComparison:
    p = adjusted_p if adjusted_p is not None else (1e-6 if drifted else 0.9)
    result = StatisticResult(statistic=0.5, p_value=p, effect=0.5, floor=0.1, n_reference=600, n_current=ROWS)
    signal = SignalResult(signal=Signal.CONFIDENCE, method="ks", result=result, adjusted_p=p, drifted=drifted)
    return DriftComparison(
        version=version, n_reference=600, n_current=ROWS, alpha=0.02, permutations=99, seed=1, signals=(signal,)
    )


def _run(monitor: DriftMonitor, windows: list[bool]) -> tuple[MonitorState, list[Level], list[int]]:
    state, levels, alerts = monitor.start(1), [], []
    for number, drifted in enumerate(windows, start=1):
        state, signal = monitor.update(state, _comparison(drifted), number * ROWS)
        levels.append(signal.level)
        alerts.extend([number] if signal.alert else [])
    return state, levels, alerts


def test_two_of_three_raises_one_alert_then_cools_down() -> None:
    monitor = DriftMonitor(settings=DriftSettings(cooldown_requests=2 * ROWS))
    _, levels, alerts = _run(monitor, [False, True, False, True, False, False, False])
    assert alerts == [4]
    assert levels == [Level.OK, Level.WARNING, Level.WARNING, Level.ALERT, Level.COOLDOWN, Level.OK, Level.OK]


def test_three_of_five_needs_a_third_vote() -> None:
    monitor = DriftMonitor(settings=DriftSettings(votes=Votes.THREE_OF_FIVE))
    assert _run(monitor, [True, True, False, False])[2] == []
    assert _run(monitor, [True, True, False, False, True])[2] == [5]


def test_a_lasting_drift_alerts_again_after_the_cooldown_in_the_same_episode() -> None:
    monitor = DriftMonitor(settings=DriftSettings(cooldown_requests=2 * ROWS))
    state, _, alerts = _run(monitor, [True] * 6)
    assert alerts == [2, 5]
    assert state.episode == 1


def test_a_release_begins_a_new_episode() -> None:
    monitor = DriftMonitor(settings=DriftSettings(cooldown_requests=ROWS))
    state, _, alerts = _run(monitor, [True, True, False, False, True, True])
    assert alerts == [2, 6]
    assert state.episode == 2


def test_a_window_between_level_and_release_level_keeps_the_warning() -> None:
    monitor = DriftMonitor(settings=DriftSettings())
    state = monitor.start(1)
    for number, p in enumerate([1e-6, 0.05, 0.05, 0.05], start=1):
        state, signal = monitor.update(state, _comparison(p < 0.02, adjusted_p=p), number * ROWS)
    assert signal.level is Level.WARNING
    state, signal = monitor.update(state, _comparison(False), 5 * ROWS)
    assert signal.level is Level.OK
    assert signal.changed


@given(st.lists(st.booleans(), max_size=40), st.sampled_from(list(Votes)))
def test_alerts_keep_the_cooldown_and_have_the_votes(windows: list[bool], votes: Votes) -> None:
    settings = DriftSettings(votes=votes, cooldown_requests=900)
    state, levels, alerts = _run(DriftMonitor(settings=settings), windows)
    for number in alerts:
        assert sum(windows[max(0, number - votes.among) : number]) >= votes.needed
        assert windows[number - 1]
    assert all((b - a) * ROWS >= settings.cooldown_requests for a, b in pairwise(alerts))
    assert state.windows == len(windows)
    assert levels.count(Level.ALERT) == len(alerts)


@given(st.lists(st.booleans(), max_size=20))
def test_state_survives_json_at_any_point(windows: list[bool]) -> None:
    state, _, _ = _run(DriftMonitor(settings=DriftSettings()), windows)
    assert MonitorState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_overlapping_windows_and_other_versions_are_refused() -> None:
    monitor = DriftMonitor(settings=DriftSettings())
    state, signal = monitor.update(monitor.start(1), _comparison(True), ROWS)
    assert json.loads(json.dumps(signal.to_json()))["signals"] == ["confidence"]
    with pytest.raises(DataError, match="must not overlap"):
        monitor.update(state, _comparison(False), ROWS + ROWS - 1)
    with pytest.raises(DataError, match="version 2"):
        monitor.update(state, _comparison(False, version=2), 2 * ROWS)


def test_e_detector_keeps_its_run_length_at_its_bound() -> None:
    rng = np.random.default_rng(1)
    detector = EDetector(bound=0.1, run_length=2_000)
    _, alarms = detector.update(detector.start(), rng.random(60_000) < 0.1)
    assert len(alarms) <= 60_000 / 2_000


@pytest.mark.parametrize(("rate", "most"), [(0.2, 300), (0.4, 80)])
def test_e_detector_finds_a_rise_soon(rate: float, most: int) -> None:
    delays = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        detector = EDetector(bound=0.1, run_length=10_000)
        state, early = detector.update(detector.start(), rng.random(1_000) < 0.08)
        assert early == ()
        _, alarms = detector.update(state, rng.random(3_000) < rate)
        delays.append(alarms[0] - 1_000)
    assert np.median(delays) < most


def test_e_detector_does_not_care_how_values_are_batched() -> None:
    values = np.random.default_rng(3).random(500)
    detector = EDetector(bound=0.4, run_length=200)
    whole, alarms = detector.update(detector.start(), values)
    state, pieces = detector.start(), []
    for part in np.array_split(values, 13):
        state, found = detector.update(EDetectorState.from_json(json.loads(json.dumps(state.to_json()))), part)
        pieces.extend(found)
    assert tuple(pieces) == alarms
    assert state.evidence == pytest.approx(whole.evidence)
    assert alarms


def test_e_detector_refuses_values_outside_its_range() -> None:
    detector = EDetector(bound=0.1, run_length=100)
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        detector.update(detector.start(), [0.1, 1.2])
    with pytest.raises(DataError, match="bound"):
        EDetector(bound=0.0, run_length=100)
    with pytest.raises(DataError, match="run length"):
        EDetector(bound=0.5, run_length=1)


def test_upper_bound_holds_in_most_samples() -> None:
    rng = np.random.default_rng(4)
    assert np.mean([upper_bound(rng.random(200) < 0.1) >= 0.1 for _ in range(200)]) >= 0.9
    assert np.mean([upper_bound(rng.beta(1, 9, 200)) >= 0.1 for _ in range(200)]) >= 0.95


def test_watched_values_rise_when_things_get_worse() -> None:
    assert errors(["a", "b"], ["a", "c"]).tolist() == [0.0, 1.0]
    assert doubt(np.array([1.0, 0.25])).tolist() == [0.0, 0.75]
    assert abstained(np.array([0.6, 0.2]), 0.5).tolist() == [0.0, 1.0]
    with pytest.raises(DataError):
        errors(["a"], [])
