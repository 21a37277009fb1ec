"""What became of lists: a stream without a change raises no more alerts than promised, and each change is found."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from perennial.continual.drift.compare import compare, measure, signals_of
from perennial.continual.drift.explain import explain
from perennial.continual.drift.monitor import DriftMonitor
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.settings import DriftSettings, Signal
from perennial.continual.drift.window import Window

pytestmark = pytest.mark.slow
OUTCOMES = {Signal.HIT_RATE, Signal.POPULARITY, Signal.NEW_ITEMS}
SETTINGS = DriftSettings()


def lists(rows: int, rng: np.random.Generator, *, hits: float = 0.3, new: float = 0.02, head: float = 4.0) -> Window:
    """Lists that all look alike; what was liked of a third more than the hits is known, most of it popular."""
    hit = rng.random(rows) < hits
    told = hit | (rng.random(rows) < 0.1)
    popularity: NDArray[np.float64] = np.round(rng.beta(head, 1.0, rows), 2)
    return replace(
        Window.from_columns({"text": ["all"] * rows, "prediction": ["film"] * rows, "version": [1] * rows}),
        hits=hit.astype(np.float32),
        popularities=np.where(told, popularity, np.nan).astype(np.float32),
        new_items=np.where(told, rng.random(rows) < new, np.nan).astype(np.float32),
    )


def reference_of(rng: np.random.Generator) -> ReferenceProfile:
    return ReferenceProfile.build(lists(600, rng), version=1, rng=rng)


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
