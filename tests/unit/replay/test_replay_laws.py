"""The laws that every buffer obeys, whatever its rule."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.records import Example
from perennial.continual.replay import (
    BufferKind,
    BufferState,
    OfferOutcome,
    ReplayBuffer,
    lottery,
    make_buffer,
    restore_buffer,
    row_bytes,
)
from perennial.continual.replay.lottery import Ticket
from perennial.continual.tasks import task_named

pytestmark = pytest.mark.slow


def draw(text: str, *, seed: int) -> Ticket:
    return lottery.draw(task_named("text_classification").identity(text), seed=seed)


START = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = list(BufferKind)
RANKED = [BufferKind.RESERVOIR, BufferKind.CLASS_BALANCED, BufferKind.UNCERTAINTY]
every_kind = pytest.mark.parametrize("kind", KINDS)
every_ranked_kind = pytest.mark.parametrize("kind", RANKED)


def example(number: int, label: str = "a", key: str | None = None, text: str | None = None) -> Example:
    return Example(text=text or f"text {number}", label=label, at=START + timedelta(seconds=number), key=key)


def stream(count: int, classes: int = 5, seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)
    labels = rng.geometric(0.4, count).clip(1, classes)
    return [example(n, f"class {labels[n]}", key=f"person {n % 7}") for n in range(count)]


def feed(buffer: ReplayBuffer, examples: list[Example]) -> ReplayBuffer:
    for row in examples:
        buffer.offer(row, uncertainty=(len(row.text) * 37 % 11) / 11)
    return buffer


def texts(buffer: ReplayBuffer) -> set[str]:
    return {row.text for row in buffer.rows()}


def through_json(state: BufferState) -> BufferState:
    """What a store does: rows as columns, everything else as JSON."""
    plain = json.loads(
        json.dumps({"counters": state.counters, "rng": state.rng, "extras": state.extras}, allow_nan=False)
    )
    return BufferState(
        kind=state.kind,
        capacity=state.capacity,
        byte_budget=state.byte_budget,
        seen=state.seen,
        counters=plain["counters"],
        rng=plain["rng"],
        rows=tuple(Example(**{name: getattr(row, name) for name in Example.__slots__}) for row in state.rows),
        extras=tuple(plain["extras"]),
    )


@every_kind
@given(
    capacity=st.integers(1, 12),
    budget=st.none() | st.integers(1, 1500),
    offers=st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), max_size=60),
    seed=st.integers(0, 2**64 - 1),
)
@settings(max_examples=60)
def test_offer_never_exceeds_the_budgets_and_accounts_for_every_row(
    kind: BufferKind, capacity: int, budget: int | None, offers: list[tuple[int, str]], seed: int
) -> None:
    buffer = make_buffer(kind, capacity, seed, budget)
    kept: dict[str, Example] = {}
    for number, label in offers:
        row = example(number, label)
        answer = buffer.offer(row)
        for gone in answer.evicted:
            assert kept.pop(gone.text) is gone
        if answer.kept:
            kept[row.text] = row
        assert len(buffer) <= capacity
        assert buffer.bytes == sum(map(row_bytes, buffer.rows()))
        assert budget is None or buffer.bytes <= budget
        assert {r.text: r for r in buffer.rows()} == kept
    assert buffer.seen == len(offers)


@every_kind
def test_offer_fills_the_buffer_before_it_refuses_anything(kind: BufferKind) -> None:
    buffer = make_buffer(kind, 10, 3)
    assert all(buffer.offer(row).outcome is OfferOutcome.KEPT for row in stream(10))
    assert len(buffer) == 10


@every_kind
def test_same_seed_gives_the_same_rows_and_the_same_sample(kind: BufferKind) -> None:
    one, two = (feed(make_buffer(kind, 20, 5), stream(300)) for _ in range(2))
    assert one.rows() == two.rows()
    assert one.sample(8, np.random.default_rng(1)) == two.sample(8, np.random.default_rng(1))


@every_ranked_kind
def test_another_seed_gives_other_rows(kind: BufferKind) -> None:
    assert texts(feed(make_buffer(kind, 20, 5), stream(300))) != texts(feed(make_buffer(kind, 20, 6), stream(300)))


@every_kind
def test_inputs_are_unchanged(kind: BufferKind) -> None:
    rows = stream(50)
    before = [{name: getattr(row, name) for name in Example.__slots__} for row in rows]
    embedding = [0.5, 0.25, 1.0]
    buffer = make_buffer(kind, 10, 1)
    for row in rows:
        buffer.offer(row, embedding=embedding)
    state = buffer.state()
    counters = json.dumps(state.counters, sort_keys=True)
    feed_more = restore_buffer(state)
    for row in stream(50, seed=9):
        feed_more.offer(row, embedding=embedding)
    assert [{name: getattr(row, name) for name in Example.__slots__} for row in rows] == before
    assert embedding == [0.5, 0.25, 1.0]
    assert json.dumps(state.counters, sort_keys=True) == counters
    assert restore_buffer(state).rows() == buffer.rows()


@every_kind
def test_sample_is_uniform_without_repeats_and_leaves_the_buffer_alone(kind: BufferKind) -> None:
    buffer = feed(make_buffer(kind, 10, 5), stream(200))
    before, rng = buffer.state(), np.random.default_rng(0)
    counts: Counter[str] = Counter()
    for _ in range(2000):
        drawn = buffer.sample(3, rng)
        assert len({row.text for row in drawn}) == 3
        counts.update(row.text for row in drawn)
    assert set(counts) == texts(buffer)
    expected = 2000 * 3 / 10
    assert max(abs(count - expected) for count in counts.values()) < 5 * np.sqrt(expected)
    assert len(buffer.sample(99, rng)) == 10
    assert buffer.state() == before


@every_kind
def test_sample_of_an_empty_buffer_is_empty_and_of_a_negative_number_is_refused(kind: BufferKind) -> None:
    buffer = make_buffer(kind, 4)
    assert buffer.sample(3, np.random.default_rng(0)) == ()
    with pytest.raises(DataError, match="asked for -1"):
        buffer.sample(-1, np.random.default_rng(0))


@every_kind
@pytest.mark.parametrize("budget", [None, 1600])
def test_continuing_after_a_restore_equals_never_having_stopped(kind: BufferKind, budget: int | None) -> None:
    rows = stream(400)
    through = make_buffer(kind, 20, 5, budget)
    stopped = make_buffer(kind, 20, 5, budget)
    for start in range(0, 400, 40):
        feed(through, rows[start : start + 40])
        feed(stopped, rows[start : start + 40])
        if start == 200:
            assert through.erase("person 3") == stopped.erase("person 3") > 0
        stopped = restore_buffer(through_json(stopped.state()))
    assert stopped.state() == through.state()
    assert stopped.sample(5, np.random.default_rng(2)) == through.sample(5, np.random.default_rng(2))


@every_kind
def test_offering_again_after_a_crash_is_harmless(kind: BufferKind) -> None:
    rows = stream(60)
    buffer = feed(make_buffer(kind, 100, 5), rows)
    kept = buffer.rows()
    assert all(buffer.offer(row).outcome is OfferOutcome.DUPLICATE for row in rows)
    assert buffer.offer(example(99, rows[0].label, text=rows[0].text.upper() + " ")).outcome is OfferOutcome.DUPLICATE
    assert buffer.rows() == kept


@every_ranked_kind
def test_rows_do_not_depend_on_order_repetition_or_restarts(kind: BufferKind) -> None:
    rows = stream(300)
    expected = texts(feed(make_buffer(kind, 20, 5), rows))
    for seed in range(5):
        shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(300)]
        buffer = feed(make_buffer(kind, 20, 5), shuffled[:200])
        buffer = feed(restore_buffer(buffer.state()), shuffled[100:])
        assert texts(feed(buffer, shuffled)) == expected


@every_ranked_kind
@pytest.mark.parametrize(("n", "k"), [(n, k) for n in range(1, 6) for k in (1, 2) if k <= n])
def test_keep_rate_is_k_over_n_over_every_order_of_the_lottery_numbers(kind: BufferKind, n: int, k: int) -> None:
    """All n! orders of the numbers are equally likely, so counting one seed of each is the exact probability."""
    names = [f"text {i}" for i in range(n)]
    seed_of_order: dict[tuple[str, ...], int] = {}
    for seed in itertools.count():
        order = tuple(sorted(names, key=lambda name: draw(name, seed=seed).number))
        seed_of_order.setdefault(order, seed)
        if len(seed_of_order) == math.factorial(n):
            break
    kept = Counter(name for seed in seed_of_order.values() for name in texts(_filled(make_buffer(kind, k, seed), n)))
    assert {kept[name] * n for name in names} == {k * math.factorial(n)}


@every_ranked_kind
def test_keep_rate_over_seeds_does_not_favour_early_or_late_rows(kind: BufferKind) -> None:
    runs, n, k = 3000, 12, 3
    kept: Counter[str] = Counter()
    for seed in range(runs):
        kept.update(texts(_filled(make_buffer(kind, k, seed), n)))
    expected = runs * k / n
    chi_square = sum((kept[f"text {i}"] - expected) ** 2 / (expected * (1 - k / n)) for i in range(n))
    assert chi_square * (n - 1) / n < 31.3  # 99.9th percentile of chi square with 11 degrees of freedom


def _filled(buffer: ReplayBuffer, n: int) -> ReplayBuffer:
    for i in range(n):
        buffer.offer(example(i))
    return buffer


@every_kind
def test_erase_drops_every_row_of_a_key_and_only_those(kind: BufferKind) -> None:
    buffer = feed(make_buffer(kind, 30, 5), stream(200))
    mine = {row.text for row in buffer.rows() if row.key == "person 2"}
    others = texts(buffer) - mine
    assert buffer.erase("person 2") == len(mine) > 0
    assert texts(buffer) == others
    assert buffer.bytes == sum(map(row_bytes, buffer.rows()))
    assert buffer.erase("person 2") == 0
    assert buffer.erase("nobody") == 0
    assert "person 2" not in str(buffer.state())


@every_kind
def test_erase_leaves_a_buffer_that_fills_again(kind: BufferKind) -> None:
    buffer = feed(make_buffer(kind, 30, 5), stream(100))
    buffer.erase("person 2")
    after = len(buffer)
    for n in range(1000, 1600):
        buffer.offer(example(n, f"class {n % 5}", key="new"))
    assert after < 30 == len(buffer)


@every_kind
def test_a_newer_label_replaces_the_older_and_an_older_never_the_newer(kind: BufferKind) -> None:
    buffer = make_buffer(kind, 10)
    old, new = example(1, "wrong", text="card lost"), example(2, "right", text="Card  lost")
    buffer.offer(old)
    answer = buffer.offer(new)
    assert answer.kept
    assert answer.evicted == (old,)
    assert buffer.offer(old).outcome is OfferOutcome.DUPLICATE
    assert buffer.rows() == (new,)


@every_kind
def test_a_row_larger_than_the_byte_budget_is_rejected(kind: BufferKind) -> None:
    buffer = make_buffer(kind, 10, 0, 200)
    assert buffer.offer(example(1)).kept
    assert buffer.offer(example(2, text="long " * 100)).outcome is OfferOutcome.REJECTED
    assert len(buffer) == 1


@every_kind
def test_state_is_refused_by_another_kind_and_when_it_is_not_whole(kind: BufferKind) -> None:
    state = feed(make_buffer(kind, 5), stream(20)).state()
    fields = {name: getattr(state, name) for name in BufferState.__slots__}
    other = KINDS[(KINDS.index(kind) + 1) % len(KINDS)]
    with pytest.raises(DataError, match="was given to a"):
        type(make_buffer(other, 5)).restore(state)
    with pytest.raises(DataError, match="its budget is 4 rows"):
        restore_buffer(BufferState(**{**fields, "capacity": 4}))
    with pytest.raises(DataError, match="twice"):
        restore_buffer(BufferState(**{**fields, "rows": state.rows[:4] + state.rows[:1]}))
    with pytest.raises(DataError, match="extras for 5 rows"):
        BufferState(**{**fields, "extras": (1.0,)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_buffer("fifo", 5), "'fifo' is unknown"),
        (lambda: make_buffer("reservoir", 0), "capacity is 0"),
        (lambda: make_buffer("reservoir", 5, -1), "seed is -1"),
        (lambda: make_buffer("reservoir", 5, 0, 0), "byte budget is 0"),
    ],
)
def test_make_buffer_names_the_wrong_setting(make: Callable[[], ReplayBuffer], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


@every_kind
def test_many_offers_stay_in_bounded_memory(kind: BufferKind) -> None:
    """What a buffer holds besides its rows must not grow with the offers: the same state size after 4 times as many."""
    buffer = make_buffer(kind, 50, 1)
    sizes = []
    for n in range(8000):
        buffer.offer(example(n % 4_000_000, f"class {n % 10}"))
        if n in (1999, 7999):
            state = asdict(buffer.state())
            sizes.append(len(json.dumps({k: state[k] for k in ("counters", "rng", "extras")})))
            assert len(buffer._slots) == len(buffer._tickets) == len(buffer._notes) == 50  # type: ignore[attr-defined]
    assert sizes[1] < sizes[0] * 1.1


@every_kind
def test_of_two_labels_given_at_the_same_time_the_one_that_comes_later_counts(kind: BufferKind) -> None:
    buffer = make_buffer(kind, 10)
    first, second = example(1, "first", text="card lost"), example(1, "second", text="card lost")
    buffer.offer(first)
    assert buffer.offer(second).evicted == (first,)
    assert buffer.rows() == (second,)
    assert buffer.seen == 2
