"""Intervals hold the truth as often as they say, from draws that depend on the generator and the rows alone."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.continual import intervals
from perennial.continual.errors import DataError
from perennial.continual.intervals import bonett_price, mean_interval, paired_bootstrap, surely_below, wilson

pytestmark = pytest.mark.slow


@given(gains=st.integers(0, 40), losses=st.integers(0, 40), ties=st.integers(0, 400))
def test_the_interval_of_paired_accuracies_is_sound(gains: int, losses: int, ties: int) -> None:
    rows = gains + losses + ties
    if not rows:
        with pytest.raises(DataError, match="0 rows"):
            bonett_price(gains, losses, rows)
        return
    found, mirrored = bonett_price(gains, losses, rows), bonett_price(losses, gains, rows)
    assert -1.0 <= found.low < found.high <= 1.0
    assert found.low == pytest.approx(-mirrored.high)
    assert found.mean == -mirrored.mean == (gains - losses) / rows


def test_a_share_lies_in_its_interval_however_the_numbers_are_rounded() -> None:
    wrong = [
        (hits, rows)
        for rows in range(1, 400)
        for hits in {0, 1, rows // 2, rows - 1, rows}
        if not 0.0 <= (found := wilson(hits, rows)).low <= found.mean <= found.high <= 1.0
    ]
    assert wrong == []


def test_intervals_cover_what_they_should() -> None:
    """Of 400 samples of 100 rows, at least 93% of the intervals hold the true share and the true difference."""
    rng = np.random.default_rng(0)
    shares = differences = 0
    for _ in range(400):
        found = wilson(int(rng.binomial(100, 0.03)), 100)
        shares += found.low <= 0.03 <= found.high
        won, lost, _ties = rng.multinomial(100, [0.02, 0.05, 0.93])
        found = bonett_price(int(won), int(lost), 100)
        differences += found.low <= -0.03 <= found.high
    assert shares / 400 >= 0.93
    assert differences / 400 >= 0.93


@given(gains=st.integers(0, 40), losses=st.integers(0, 40), ties=st.integers(1, 400))
def test_the_squares_of_right_and_wrong_change_nothing(gains: int, losses: int, ties: int) -> None:
    rows = gains + losses + ties
    squares = float(gains), float(losses)
    assert bonett_price(float(gains), float(losses), rows, squares=squares) == bonett_price(gains, losses, rows)


def test_the_interval_of_scores_between_right_and_wrong_covers_and_is_narrower() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        rows = np.clip(rng.normal(-0.03, 0.2, 100), -1.0, 1.0)
        up, down = rows[rows > 0], -rows[rows < 0]
        squares = float((up**2).sum()), float((down**2).sum())
        found = bonett_price(float(up.sum()), float(down.sum()), 100, squares=squares)
        covered += found.low <= -0.03 <= found.high
        whole = bonett_price(float(up.sum()), float(down.sum()), 100)
        assert found.high - found.low < 0.8 * (whole.high - whole.low)
    assert covered / 400 >= 0.93


def test_paired_bootstrap_covers_the_true_difference_about_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(200):
        base = rng.normal(size=60)
        interval = paired_bootstrap(base + rng.normal(0.3, 1.0, 60), base, rng, resamples=400)
        hits += interval.low <= 0.3 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_paired_bootstrap_uses_the_pairing_and_the_seed() -> None:
    base = np.random.default_rng(1).normal(size=100)
    one, two = (paired_bootstrap(base + 0.01, base, np.random.default_rng(3)) for _ in range(2))
    assert one == two
    assert one.decided == 1
    assert paired_bootstrap(base, base + 0.01, np.random.default_rng(3)).decided == -1
    assert paired_bootstrap(base, base[::-1], np.random.default_rng(3)).decided == 0


def test_the_bootstrap_of_many_rows_needs_little_memory_and_is_right() -> None:
    values = np.random.default_rng(1).normal(0.25, 2.0, 60_000)
    tracemalloc.start()
    try:
        found = mean_interval(values, np.random.default_rng(0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * 2**20
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


@pytest.mark.parametrize("rows", [1, 3, 7, 11, 5000])
def test_the_draws_are_the_same_whatever_fits_at_once(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    values = np.random.default_rng(2).normal(size=rows)
    means = np.random.default_rng(0).choice(values, size=(1000, rows)).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    for at_once in (11, 1_000_000):
        monkeypatch.setattr(intervals, "_DRAWN_AT_ONCE", at_once)
        found = mean_interval(values, np.random.default_rng(0))
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
        for limit in np.quantile(means, [0.1, 0.5, 0.97]):
            for confidence in (0.05, 0.5, 0.95):
                expected = bool((means < limit).mean() >= confidence)
                assert surely_below(values, limit, confidence, np.random.default_rng(0)) is expected


def test_one_lost_row_of_many_is_no_proof_and_a_hundred_are() -> None:
    one, many = np.zeros(200), np.zeros(200)
    one[0], many[:100] = -100.0, -100.0
    assert not surely_below(one, 0.0, 0.95, np.random.default_rng(0))
    assert surely_below(many, 0.0, 0.95, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_bootstrap([1.0], [1.0, 2.0], np.random.default_rng(0)), "two equal lists"),
        (lambda: paired_bootstrap([], [], np.random.default_rng(0)), "two equal lists"),
        (lambda: paired_bootstrap([1.0], [1.0], np.random.default_rng(0), level=1.0), r"\(0, 1\)"),
        (lambda: mean_interval([], np.random.default_rng(0)), "at least one"),
        (lambda: wilson(0, 0), "0 rows"),
    ],
)
def test_wrong_input_is_refused_with_what_was_seen(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()
