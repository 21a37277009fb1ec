"""What happens at a buffer's limits, and which numbers must never change because stored buffers rest on them."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.records import Example
from perennial.continual.replay import (
    BufferKind,
    ClassBalancedBuffer,
    HerdingBuffer,
    OfferOutcome,
    ReservoirBuffer,
    UncertaintyBuffer,
    lottery,
    make_buffer,
    restore_buffer,
    row_bytes,
)
from perennial.continual.replay.kept_mean import KeptMean
from perennial.continual.replay.largest import LargestGroup
from perennial.continual.replay.lottery import Ticket, weighted
from perennial.continual.replay.slots import SlottedBuffer
from perennial.continual.tasks import task_named


def draw(text: str, *, seed: int) -> Ticket:
    return lottery.draw(task_named("text_classification").identity(text), seed=seed)


START = datetime(2026, 1, 1, tzinfo=UTC)
every_kind = pytest.mark.parametrize("kind", list(BufferKind))


def example(number: int, label: str = "a", key: str | None = None, text: str | None = None) -> Example:
    return Example(text=text or f"text {number}", label=label, at=START + timedelta(seconds=number), key=key)


# numbers that stored buffers rest on


def test_lottery_numbers_are_the_same_in_every_release() -> None:
    """Floors are stored: were a text to draw another number tomorrow, the sample would be skewed for good."""
    ticket = draw("Card lost", seed=1)
    assert ticket.identity.hex() == "fb1e6ecd205c7947c84312f5a7fba021"
    assert ticket.number == 0.2791955547413001
    assert draw("card lost", seed=2**64 - 1).number == 0.20514383370188596
    assert weighted(0.25, 0.5) == pytest.approx(2 * np.log(0.25))


def test_words_are_hashed_to_the_same_places_in_every_release() -> None:
    buffer = HerdingBuffer(capacity=3)
    buffer.offer(example(1, text="card lost card"))
    vector = np.array(buffer.state().extras[0])
    assert {int(place): round(float(vector[place]), 4) for place in vector.nonzero()[0]} == {19: -0.8944, 42: -0.4472}


@pytest.mark.parametrize("width", [65, 100, 128, 384])
def test_wide_embeddings_are_folded_by_random_signs_of_the_seed(width: int) -> None:
    embedding = np.linspace(-1, 2, width)
    buffer = HerdingBuffer(capacity=3, seed=5)
    buffer.offer(example(1), embedding=embedding.tolist())
    signs = np.random.default_rng(5).choice([-1.0, 1.0], width)
    folded = np.zeros(64)
    for place in range(width):
        folded[place % 64] += embedding[place] * signs[place]
    np.testing.assert_allclose(buffer.state().extras[0], folded / np.linalg.norm(folded), atol=1e-4)


@pytest.mark.parametrize("width", [1, 3, 64])
def test_narrow_embeddings_are_taken_as_they_are_at_unit_length_on_a_grid(width: int) -> None:
    embedding = np.linspace(1, 2, width)
    buffer = HerdingBuffer(capacity=3)
    buffer.offer(example(1), embedding=embedding.tolist())
    vector = np.array(buffer.state().extras[0])
    np.testing.assert_allclose(vector, embedding / np.linalg.norm(embedding), atol=1e-5)
    assert (vector * 2**16 == np.rint(vector * 2**16)).all()
    assert buffer.state().counters["space"] == width


def test_herding_describes_all_rows_alike_and_an_empty_text_as_nothing() -> None:
    buffer = HerdingBuffer(capacity=3)
    buffer.offer(example(1))
    assert buffer.state().counters["space"] == 0
    with pytest.raises(DataError, match=r"2 numbers after rows with 0"):
        buffer.offer(example(2), embedding=[1.0, 2.0])
    zeros = HerdingBuffer(capacity=3)
    assert zeros.offer(example(1), embedding=[0.0, 0.0]).kept
    assert zeros.state().extras == ([0.0, 0.0],)


# limits


@every_kind
def test_a_buffer_is_made_to_its_limits(kind: BufferKind) -> None:
    assert make_buffer(kind, 1, 2**64 - 1, 1).capacity == 1
    with pytest.raises(ConfigurationError, match="seed is"):
        make_buffer(kind, 1, 2**64)
    with pytest.raises(ConfigurationError, match="byte budget is 0"):
        make_buffer(kind, 1, 0, 0)
    plain = make_buffer()
    assert (plain.name, plain.capacity, plain.byte_budget, plain.state().rng["seed"]) == (
        "class_balanced",
        770,
        None,
        0,
    )
    direct = type(make_buffer(kind))(capacity=3)
    assert (direct.state().rng["seed"], direct.byte_budget, direct.seen, direct.bytes) == (0, None, 0, 0)


@every_kind
def test_a_row_of_exactly_the_byte_budget_is_kept_and_one_byte_more_is_not(kind: BufferKind) -> None:
    size = row_bytes(example(1))
    assert make_buffer(kind, 5, 0, size).offer(example(1)).kept
    assert make_buffer(kind, 5, 0, size - 1).offer(example(1)).outcome is OfferOutcome.REJECTED
    two = make_buffer(kind, 5, 0, 2 * size)
    assert [two.offer(example(n)).kept for n in (1, 2)] == [True, True]
    assert two.bytes == 2 * size
    two.offer(example(3))
    assert (len(two), two.bytes) == (2, 2 * size)


def test_a_row_costs_its_texts_in_utf_8_and_64_for_the_rest() -> None:
    assert row_bytes(example(1, label="ä", key="me", text="grüße")) == 64 + 7 + 2 + 2


@every_kind
def test_asking_for_no_rows_gives_none_and_for_all_gives_each_once(kind: BufferKind) -> None:
    buffer = make_buffer(kind, 5)
    for n in range(4):
        buffer.offer(example(n))
    assert buffer.sample(0, np.random.default_rng(1)) == ()
    assert sorted(row.text for row in buffer.sample(9, np.random.default_rng(1))) == [f"text {n}" for n in range(4)]


@every_kind
def test_a_state_at_its_budgets_is_restored_and_one_beyond_is_not(kind: BufferKind) -> None:
    buffer = make_buffer(kind, 3, 0, 3 * row_bytes(example(1)))
    for n in range(3):
        buffer.offer(example(n))
    state = buffer.state()
    assert restore_buffer(state).rows() == buffer.rows()
    facts = {name: getattr(state, name) for name in state.__slots__}
    with pytest.raises(DataError, match="restore an older one"):
        restore_buffer(type(state)(**facts | {"byte_budget": 3 * row_bytes(example(1)) - 1}))
    with pytest.raises(DataError, match="random source 'mt19937'"):
        restore_buffer(type(state)(**facts | {"rng": {"name": "mt19937", "seed": 0}}))


@every_kind
def test_what_an_offer_says_left_is_never_the_row_offered(kind: BufferKind) -> None:
    buffer = make_buffer(kind, 2, 3, 2 * row_bytes(example(1)))
    for n in range(60):
        answer = buffer.offer(example(n % 10 + 10))
        assert all(row.text != f"text {n % 10 + 10}" for row in answer.evicted)


@every_kind
def test_a_correction_counts_as_seen_and_leaves_one_row(kind: BufferKind) -> None:
    buffer = make_buffer(kind, 5)
    for n, label in enumerate(("a", "b", "b", "a")):
        buffer.offer(example(n, label, text="card lost"))
    assert [row.label for row in buffer.rows()] == ["a"]
    assert buffer.seen == 4
    older = example(0, "z", text="card lost")
    assert buffer.offer(older).outcome is OfferOutcome.DUPLICATE
    assert buffer.seen == 5


# floors


@pytest.mark.parametrize("kind", [ReservoirBuffer, ClassBalancedBuffer])
def test_places_that_an_erasure_frees_are_filled_by_rows_above_the_floor_alone(kind: type[SlottedBuffer]) -> None:
    """Else whoever comes after an erasure would be kept for coming late."""
    buffer = kind(capacity=20, seed=3)
    gone: list[Example] = []
    for n in range(200):
        gone += buffer.offer(example(n, key=f"person {n % 4}")).evicted
    floor = max(draw(row.text, seed=3).number for row in gone)
    assert list(buffer.state().counters["floors"].values()) == [floor]
    assert buffer.erase("person 1") >= 2
    highest = max(gone, key=lambda row: draw(row.text, seed=3).number)
    assert buffer.offer(highest).outcome is OfferOutcome.REJECTED
    for n in range(1_000, 1_020):
        if len(buffer) < 20:
            assert buffer.offer(example(n)).kept == (draw(f"text {n}", seed=3).number > floor)


def test_the_lowest_number_leaves_after_any_erasures_too() -> None:
    rng = np.random.default_rng(4)
    buffer = ReservoirBuffer(capacity=40, seed=3)
    for n in range(600):
        before = {row.text for row in buffer.rows()}
        answer = buffer.offer(example(n, key=f"person {rng.integers(12)}"))
        for row in answer.evicted:
            assert row.text == min(before | {f"text {n}"}, key=lambda text: draw(text, seed=3).number)
        if n % 25 == 24:
            buffer.erase(f"person {rng.integers(12)}")


def test_a_class_that_was_erased_costs_no_memory() -> None:
    buffer = ClassBalancedBuffer(capacity=10)
    for n in range(50):
        buffer.offer(example(n, f"class {n}", key="me"))
        buffer.erase("me")
    assert (len(buffer), len(buffer._heaps), len(buffer._largest._now)) == (0, 0, 0)


def test_floors_are_of_each_class_alone_and_outlive_a_restart() -> None:
    buffer = ClassBalancedBuffer(capacity=10, seed=3)
    for n in range(100):
        buffer.offer(example(n, "old"))
    again = restore_buffer(buffer.state())
    assert again.state().counters == buffer.state().counters
    floor = buffer.state().counters["floors"]["old"]
    low = next(n for n in range(1_000, 2_000) if draw(f"text {n}", seed=3).number < floor)
    for one in (buffer, again):
        assert one.offer(example(low, "old")).outcome is OfferOutcome.REJECTED
        assert one.offer(example(low, "new")).kept


def test_rows_of_equal_doubt_are_a_uniform_sample_and_no_doubt_counts_as_half() -> None:
    uncertain, uncertainty_free = UncertaintyBuffer(capacity=5, seed=1), UncertaintyBuffer(capacity=5, seed=1)
    for n in range(50):
        uncertain.offer(example(n), uncertainty=0.5)
        uncertainty_free.offer(example(n))
    assert uncertain.state() == uncertainty_free.state()
    best = sorted(range(50), key=lambda n: draw(f"text {n}", seed=1).number)[-5:]
    assert {row.text for row in uncertain.rows()} == {f"text {n}" for n in best}
    edge = UncertaintyBuffer(capacity=5, seed=1)
    assert edge.offer(example(1), uncertainty=0.0).kept
    assert edge.offer(example(2), uncertainty=1.0).kept
    number = draw("text 1", seed=1).number
    assert edge.state().extras[0] == pytest.approx(np.log(number) / 0.1)


# the largest group


def test_the_largest_group_is_found_after_any_changes_in_bounded_memory() -> None:
    rng = np.random.default_rng(1)
    groups, now = LargestGroup(), {"a": (1, 0.0)}
    groups.put("a", 1, 0.0)
    for _ in range(3_000):
        name, size, rank = str(rng.choice(list("bcdef"))), int(rng.integers(0, 6)), float(rng.random())
        groups.put(name, size, rank)
        now[name] = (size, rank)
        if size == 0:
            del now[name]
        assert groups.top() == min(now, key=lambda group: (-now[group][0], now[group][1]))
    heaps = []
    for n in range(3_000):
        groups.put("g", 1 + n % 2, 0.5)
        heaps.append(len(groups._heap))
    assert max(heaps) <= 8 * 7 + 64
    assert sum(after <= before for before, after in pairwise(heaps)) < 60  # swept rarely: a change costs O(log groups)
    for n in range(3_000):
        groups.put(f"passing {n}", 1, 0.5)
        groups.put(f"passing {n}", 0, 0.0)
    assert len(groups._heap) <= 8 * 8 + 64, "a group without rows costs no memory"


# herding


def test_herding_shares_its_places_between_the_classes_however_they_come() -> None:
    rng = np.random.default_rng(2)
    for order in ([0] * 30 + [1] * 30 + [2] * 30, [n % 3 for n in range(90)]):
        buffer = HerdingBuffer(capacity=9)
        for n, label in enumerate(order):
            buffer.offer(example(n, f"class {label}"), embedding=rng.normal(size=4).tolist())
        assert sorted(row.label for row in buffer.rows()) == [f"class {n}" for n in range(3) for _ in range(3)]


def test_herding_that_must_choose_among_equals_lets_the_oldest_place_go() -> None:
    buffer = HerdingBuffer(capacity=2)
    for n, label in enumerate("aab"):
        answer = buffer.offer(example(n, label), embedding=[1.0, 0.0])
    assert [row.text for row in answer.evicted] == ["text 0"]
    same = HerdingBuffer(capacity=2)
    for n in range(3):
        answer = same.offer(example(n), embedding=[1.0, 0.0])
    assert [row.text for row in answer.evicted] == ["text 0"]
    assert answer.kept


def test_herding_forgets_a_class_once_no_row_of_it_counts_any_more() -> None:
    buffer = HerdingBuffer(capacity=2)
    buffer.offer(example(1, "mine", key="me"), embedding=[1.0, 0.0])
    buffer.offer(example(2, "other"), embedding=[1.0, 0.0])
    assert set(buffer.state().counters["classes"]) == {"mine", "other"}
    buffer.erase("me")
    assert set(buffer.state().counters["classes"]) == {"other"}
    crowded = HerdingBuffer(capacity=1)
    crowded.offer(example(1, "first"), embedding=[1.0, 0.0])
    crowded.offer(example(2, "second"), embedding=[1.0, 0.0])
    counts = {label: entry["count"] for label, entry in crowded.state().counters["classes"].items()}
    assert counts == {"first": 1, "second": 1}, "a row that left still counts in its class's mean"


def test_herding_under_a_byte_budget_lets_as_many_go_as_a_long_row_needs() -> None:
    short = row_bytes(example(1))
    buffer = HerdingBuffer(capacity=50, byte_budget=4 * short)
    for n in range(4):
        buffer.offer(example(n), embedding=[1.0, float(n)])
    long = example(9, "b", text="x" * (2 * short - 64 - 1))
    answer = buffer.offer(long, embedding=[1.0, 1.5])
    assert row_bytes(long) == 2 * short
    assert (answer.kept, len(answer.evicted), buffer.bytes) == (True, 2, 4 * short)


def test_kept_rows_beside_a_newcomer_leave_no_trace_of_it() -> None:
    rng = np.random.default_rng(3)
    group, kept = KeptMean(width=3), []
    for n in range(20):
        vector = np.rint(rng.normal(size=3) * 64) / 64
        group.count(vector)
        if n % 2:
            group.put(str(n).encode(), vector)
            kept.append((str(n).encode(), vector))
        if len(kept) > 1:
            mean = group.all_sum / group.all_rows
            for newcomer in (None, np.ones(3)):
                rows = [*kept, (b"", newcomer)] if newcomer is not None else kept
                without = [np.mean([v for name, v in rows if name != gone], axis=0) - mean for gone, _ in rows]
                nearest = rows[int(np.argmin([d @ d for d in without]))][0]
                assert nearest in group.spare(newcomer)
        if n == 13:
            group.drop(kept.pop(2)[0])
    assert len(group) == len(kept) == 9
