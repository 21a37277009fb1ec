"""What each buffer promises besides the common laws."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.continual.errors import DataError
from perennial.continual.records import Example
from perennial.continual.replay import ClassBalancedBuffer, HerdingBuffer, ReservoirBuffer, UncertaintyBuffer

START = datetime(2026, 1, 1, tzinfo=UTC)


def example(number: int, label: str = "a", text: str | None = None) -> Example:
    return Example(text=text or f"text {number}", label=label, at=START + timedelta(seconds=number))


def water_level(sizes: list[int], capacity: int) -> list[int]:
    """The fairest shares: one row at a time to the class that has least of those with rows left."""
    shares = [0] * len(sizes)
    for _ in range(min(capacity, sum(sizes))):
        open_classes = [i for i, size in enumerate(sizes) if shares[i] < size]
        shares[min(open_classes, key=lambda i: shares[i])] += 1
    return sorted(shares)


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6), capacity=st.integers(1, 40), seed=st.integers(0, 1000)
)
@settings(max_examples=80)
def test_class_balanced_gives_unused_quota_to_the_others(sizes: list[int], capacity: int, seed: int) -> None:
    rows = [(c, n) for c, size in enumerate(sizes) for n in range(size)]
    buffer = ClassBalancedBuffer(capacity=capacity, seed=seed)
    for i in np.random.default_rng(seed).permutation(len(rows)):
        c, n = rows[i]
        buffer.offer(example(n, f"class {c}", text=f"{c} {n}"))
    shares = Counter(row.label for row in buffer.rows())
    counts = sorted(shares.get(f"class {c}", 0) for c in range(len(sizes)))
    assert counts == water_level(sizes, capacity)


def test_class_balanced_makes_room_for_classes_that_come_late() -> None:
    buffer = ClassBalancedBuffer(capacity=70, seed=1)
    for task in range(7):
        for n in range(700):
            buffer.offer(example(n, f"class {task}", text=f"{task} {n}"))
    assert set(Counter(row.label for row in buffer.rows()).values()) == {10}


def test_class_balanced_is_fair_within_a_class_that_shrank_and_came_back() -> None:
    """A greedy sampler that always admits rows of a shrunk class keeps too many late ones; ours must not."""
    late, total = 0, 0
    for seed in range(300):
        buffer = ClassBalancedBuffer(capacity=10, seed=seed)
        for n in range(50):
            buffer.offer(example(n, "old", text=f"early {n}"))
        for n in range(50):
            buffer.offer(example(n, "other", text=f"other {n}"))
        for n in range(50):
            buffer.offer(example(n, "old", text=f"late {n}"))
        kept = [row for row in buffer.rows() if row.label == "old"]
        late += sum(row.text.startswith("late") for row in kept)
        total += len(kept)
    assert abs(late / total - 0.5) < 4 * np.sqrt(0.25 / total)


def test_reservoir_follows_the_stream_of_classes() -> None:
    buffer = ReservoirBuffer(capacity=500, seed=3)
    for n in range(5000):
        buffer.offer(example(n, "rare" if n % 10 == 0 else "common"))
    rare = sum(row.label == "rare" for row in buffer.rows())
    assert abs(rare - 50) < 4 * np.sqrt(500 * 0.1 * 0.9)


def test_reservoir_under_a_byte_budget_uses_it_and_favours_neither_end() -> None:
    early = late = 0
    for seed in range(40):
        buffer = ReservoirBuffer(capacity=1000, seed=seed, byte_budget=5000)
        for n in range(1000):
            buffer.offer(example(n, text=f"text {n} " + "x" * (n % 60)))
        assert 4800 < buffer.bytes <= 5000
        early += sum(row.at < START + timedelta(seconds=500) for row in buffer.rows())
        late += sum(row.at >= START + timedelta(seconds=500) for row in buffer.rows())
    assert abs(early - late) < 4 * np.sqrt(early + late)


def test_uncertainty_keeps_odds_in_proportion() -> None:
    doubtful = 0
    for seed in range(400):
        buffer = UncertaintyBuffer(capacity=1, seed=seed)
        buffer.offer(example(1), uncertainty=0.9)
        buffer.offer(example(2), uncertainty=0.1)
        doubtful += buffer.rows()[0].text == "text 1"
    expected = 1.0 / 1.2  # (0.1 + 0.9) against (0.1 + 0.1)
    assert abs(doubtful / 400 - expected) < 4 * np.sqrt(expected * (1 - expected) / 400)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_uncertainty_out_of_range_is_refused_and_changes_nothing(value: float) -> None:
    buffer = UncertaintyBuffer(capacity=5)
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        buffer.offer(example(1), uncertainty=value)
    assert (len(buffer), buffer.seen) == (0, 0)


def test_herding_mean_is_closer_than_a_random_choice() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 20)) + 3 * np.eye(20)[0]
    units = points / np.linalg.norm(points, axis=1, keepdims=True)
    herding, uniform = HerdingBuffer(capacity=8, seed=1), ReservoirBuffer(capacity=8, seed=1)
    for n, point in enumerate(points):
        herding.offer(example(n), embedding=point.tolist())
        uniform.offer(example(n))

    def distance(buffer: HerdingBuffer | ReservoirBuffer) -> float:
        kept = [int(row.text.split()[1]) for row in buffer.rows()]
        return float(np.linalg.norm(units[kept].mean(axis=0) - units.mean(axis=0)))

    assert distance(herding) < 0.5 * distance(uniform)


def test_herding_projects_wide_embeddings_and_refuses_a_change_of_width() -> None:
    buffer = HerdingBuffer(capacity=3)
    buffer.offer(example(1), embedding=np.ones(384).tolist())
    assert len(buffer.state().extras[0]) == 64
    with pytest.raises(DataError, match="768 numbers after rows with 384"):
        buffer.offer(example(2), embedding=np.ones(768).tolist())
    with pytest.raises(DataError, match="not finite"):
        buffer.offer(example(2), embedding=[float("nan")] * 384)


def test_herding_erasure_takes_kept_rows_out_of_the_class_mean() -> None:
    with_person, without = HerdingBuffer(capacity=5), HerdingBuffer(capacity=5)
    for n in range(3):
        for buffer in (with_person, without):
            buffer.offer(example(n), embedding=[1.0, float(n)])
    with_person.offer(Example(text="mine", label="a", at=START, key="me"), embedding=[-5.0, 1.0])
    with_person.erase("me")
    ours, theirs = (b.state().counters["classes"]["a"] for b in (with_person, without))
    assert ours["count"] == theirs["count"] == 3
    np.testing.assert_allclose(ours["sum"], theirs["sum"], atol=1e-12)


def test_herding_lets_the_row_go_that_can_best_be_spared() -> None:
    rng = np.random.default_rng(4)
    points = rng.normal(size=(30, 6)) + 1.0
    units = points / np.linalg.norm(points, axis=1, keepdims=True)
    buffer = HerdingBuffer(capacity=5)
    for n, point in enumerate(points):
        before = [int(row.text.split()[1]) for row in buffer.rows()] + [n]
        answer = buffer.offer(example(n), embedding=point.tolist())
        if len(before) <= 5:
            continue
        gone = n if not answer.kept else int(answer.evicted[0].text.split()[1])
        mean = units[: n + 1].mean(axis=0)
        distance = {i: np.linalg.norm(units[[j for j in before if j != i]].mean(axis=0) - mean) for i in before}
        assert gone == min(distance, key=lambda i: distance[i])
