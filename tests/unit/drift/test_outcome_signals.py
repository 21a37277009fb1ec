"""What became of lists: a stream without a change raises no more alerts than promised, and each change is found."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from perennial.continual.drift.compare import compare, measure, signals_of
from perennial.continual.drift.explain import explain
from perennial.continual.drift.monitor import DriftMonitor
from perennial.continual.drift.outcomes import OUTCOMES as OUTCOME_COLUMNS
from perennial.continual.drift.outcomes import heard, silent_share
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.settings import DriftSettings, Signal
from perennial.continual.drift.window import Window

pytestmark = pytest.mark.slow
OUTCOMES = set(OUTCOME_COLUMNS)
SETTINGS = DriftSettings()


def lists(
    rows: int,
    rng: np.random.Generator,
    *,
    hits: float = 0.3,
    new: float = 0.02,
    head: float = 4.0,
    other: float = 0.1,
) -> Window:
    """Lists that all look alike; of the hits and of a tenth more feedback came, most of it on what is popular."""
    hit = rng.random(rows) < hits
    told = hit | (rng.random(rows) < other)
    popularity: NDArray[np.float64] = np.round(rng.beta(head, 1.0, rows), 2)
    return replace(
        Window.from_columns({"text": ["all"] * rows, "prediction": ["film"] * rows, "version": [1] * rows}),
        hits=np.where(told, hit, np.nan).astype(np.float32),
        popularities=np.where(told, popularity, np.nan).astype(np.float32),
        new_items=np.where(told, rng.random(rows) < new, np.nan).astype(np.float32),
    )


def reference_of(rng: np.random.Generator, **fields: float) -> ReferenceProfile:
    return ReferenceProfile.build(lists(600, rng, **fields), version=1, rng=rng)


def unheard(window: Window, rows: slice) -> Window:
    """The window, had the signals of these answers stayed away."""
    columns = {name: getattr(window, name).copy() for name in OUTCOME_COLUMNS.values()}
    for values in columns.values():
        values[rows] = np.nan
    return replace(window, **columns)


def alerts(windows: int, rng: np.random.Generator, made: Callable[[], Window]) -> list[int]:
    """At which windows the monitor raised an alert, beside one reference."""
    reference, monitor = reference_of(rng), DriftMonitor(settings=SETTINGS)
    state, found = monitor.start(1), []
    for number in range(windows):
        window = made()
        state, signal = monitor.update(state, compare(reference, window, SETTINGS, rng), 300 * (number + 1))
        if signal.alert:
            found.append(number)
    return found


def test_lists_to_which_nothing_happens_raise_no_more_alerts_than_promised() -> None:
    """One in 100,000 requests is promised: here are 108,000, beside 6 references."""
    rng = np.random.default_rng(1)
    raised = sum(len(alerts(60, rng, lambda: lists(300, rng))) for _ in range(6))
    assert raised <= 3


@pytest.mark.parametrize(
    ("change", "signal"),
    [
        ({"hits": 0.18}, Signal.HIT_RATE),
        ({"new": 0.25}, Signal.NEW_ITEMS),
        ({"head": 1.5}, Signal.POPULARITY),
    ],
    ids=["fewer hits", "more that is new", "less popular"],
)
def test_each_change_is_found_within_a_few_windows_and_told_by_its_own_signal(
    change: dict[str, float], signal: Signal
) -> None:
    for seed in range(5):
        rng = np.random.default_rng([7, seed])
        raised = alerts(4, rng, lambda rng=rng: lists(300, rng, **change))  # type: ignore[misc]
        assert raised
        assert raised[0] <= 2
        comparison = compare(reference_of(rng), lists(300, rng, **change), SETTINGS, rng)
        assert comparison.drifted_signals[0] is signal


def test_better_lists_and_fewer_new_items_are_no_drift() -> None:
    rng = np.random.default_rng(3)
    reference = ReferenceProfile.build(lists(600, rng, new=0.2), version=1, rng=rng)
    comparison = compare(reference, lists(300, rng, hits=0.6, new=0.0), SETTINGS, rng)
    assert comparison.drifted_signals == ()
    assert explain(reference, lists(300, rng), comparison, rng).summary == "nothing drifted in 300 rows"


def test_what_few_told_of_is_not_compared() -> None:
    rng = np.random.default_rng(4)
    reference, window = reference_of(rng), lists(300, rng)
    assert set(signals_of(reference, window)) >= OUTCOMES
    few = replace(window, popularities=np.full(300, np.nan, np.float32), new_items=None)
    assert OUTCOMES & set(signals_of(reference, few)) == {Signal.HIT_RATE}
    without = lists(300, rng)
    assert not OUTCOMES & set(signals_of(reference, replace(without, hits=None, popularities=None, new_items=None)))


def test_a_rare_hit_counts_as_much_as_a_frequent_one() -> None:
    rng = np.random.default_rng(5)
    for rate, fewer in ((0.04, 0.005), (0.5, 0.37)):
        reference = ReferenceProfile.build(lists(2_000, rng, hits=rate), version=1, rng=rng)
        now = lists(1_000, rng, hits=fewer)
        assert measure(Signal.HIT_RATE, reference, now, seed=1, permutations=99, floor=0.15).relevant


@pytest.mark.parametrize(
    ("rows", "share"),
    [(slice(300), 1.0), (slice(10, 300), 0.97), (slice(120, 300), 0.6), (slice(100), 0.33)],
    ids=["all of it", "all but its beginning", "its end", "its beginning"],
)
def test_signals_that_stay_away_are_no_drift_and_are_told(rows: slice, share: float) -> None:
    for seed in range(5):
        rng = np.random.default_rng([8, seed])
        reference, window = reference_of(rng), unheard(lists(300, rng), rows)
        comparison = compare(reference, window, SETTINGS, rng)
        assert not comparison.drifted
        assert comparison.feedback_missing
        assert comparison.silent_share == pytest.approx(share, abs=0.06)
        assert "; feedback is missing for " in explain(reference, window, comparison, rng).summary


def test_an_outage_over_several_windows_raises_no_alert_and_is_told_once() -> None:
    rng = np.random.default_rng(9)
    reference, monitor = reference_of(rng), DriftMonitor(settings=SETTINGS)
    state, told = monitor.start(1), []
    for number, rows in enumerate([slice(0), slice(100, 300), slice(300), slice(300), slice(200), slice(0)]):
        comparison = compare(reference, unheard(lists(300, rng), rows), SETTINGS, rng)
        state, signal = monitor.update(state, comparison, 300 * (number + 1))
        assert not signal.alert
        told.append(signal.silence)
    assert told == [False, True, False, False, False, False]


def test_fewer_hits_are_found_where_a_click_is_all_that_anybody_tells() -> None:
    """Then fewer answers have feedback as well; a fall to a sixth still leaves too much of it for an outage."""
    for seed, fewer in enumerate([0.18, 0.1, 0.05] * 2):
        rng = np.random.default_rng([10, seed])
        comparison = compare(reference_of(rng, other=0.0), lists(300, rng, hits=fewer, other=0.0), SETTINGS, rng)
        assert comparison.drifted_signals == (Signal.HIT_RATE,)


def test_a_reference_that_was_taken_in_an_outage_counts_what_was_heard() -> None:
    rng = np.random.default_rng(11)
    reference = ReferenceProfile.build(unheard(lists(600, rng), slice(200, 500)), version=1, rng=rng)
    assert not compare(reference, lists(300, rng), SETTINGS, rng).drifted
    assert compare(reference, lists(300, rng, hits=0.15), SETTINGS, rng).drifted_signals[0] is Signal.HIT_RATE
    nothing = ReferenceProfile.build(unheard(lists(600, rng), slice(600)), version=1, rng=rng)
    comparison = compare(nothing, unheard(lists(300, rng), slice(300)), SETTINGS, rng)
    assert (comparison.drifted, comparison.feedback_missing) == (False, False), "nobody ever told anything"


def test_a_window_in_which_feedback_comes_as_it_usually_does_is_heard_whole() -> None:
    rng = np.random.default_rng(12)
    for rate in (0.02, 0.1, 0.4, 0.9):
        whole = [heard(rng.random(300) < rate, usual=rate).all() for _ in range(200)]
        assert np.mean(whole) >= 0.99
    assert not heard(np.zeros(0, dtype=bool)).size
    assert heard(np.ones(5, dtype=bool)).all()
    assert silent_share(replace(lists(50, rng), hits=None), lists(50, rng)) == 0.0
