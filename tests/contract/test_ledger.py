"""What the ledger promises, on SQLite and on PostgreSQL alike."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import DataError, InputError, LeaseLost, NotFound
from perennial.continual.records import Example, Origin, Route, Split
from perennial.continual.replay import BufferKind, BufferState
from perennial.continual.tasks.ranking import Impression, Query
from perennial.ops.ledger import (
    Conflict,
    DriftReportRow,
    FeedbackReceipt,
    FeedbackRow,
    Fence,
    JoinOutcome,
    Ledger,
    Phase,
    RunOutcome,
    VersionRow,
    VersionState,
    version_card,
)
from perennial.ops.ledger.pruning import Forgotten
from tests.component.databases import BACKENDS, fresh_url

pytestmark = pytest.mark.component

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


@pytest.fixture(params=BACKENDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(fresh_url(request.param, tmp_path)) as opened:
        opened.register_model("intent", {"task": "text_classification"})
        yield opened


def example(text: str, label: str = "fee", hours: float = 0, **facts: str | None) -> Example:
    return Example(text=text, label=label, at=at(hours), origin=Origin.FEEDBACK, **facts)


def all_train(_: str) -> Split:
    return Split.TRAIN


def together(count: int, action: Callable[[int], object]) -> list[object]:
    """Run an action in threads that start at the same moment; return results and errors in order."""
    results: list[object] = [None] * count
    gate = threading.Barrier(count)

    def work(index: int) -> None:
        gate.wait()
        try:
            results[index] = action(index)
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=work, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# models and versions


def test_register_model_replaces_settings_and_keeps_the_version_counter(ledger: Ledger) -> None:
    assert ledger.next_version("intent") == 1
    ledger.register_model("intent", {"task": "ranking"})
    assert [(row.name, row.settings) for row in ledger.models()] == [("intent", {"task": "ranking"})]
    assert ledger.next_version("intent") == 2


def test_a_version_number_is_never_given_twice_even_by_threads_at_once(ledger: Ledger) -> None:
    numbers = together(8, lambda _: ledger.next_version("intent"))
    assert sorted(numbers) == list(range(1, 9))  # type: ignore[type-var]


def test_a_version_number_chosen_by_the_caller_moves_the_counter_past_it(ledger: Ledger) -> None:
    ledger.add_version(VersionRow(model="intent", version=7, state=VersionState.FAILED))
    assert ledger.next_version("intent") == 8


def test_a_version_round_trips_and_its_state_and_facts_change(ledger: Ledger) -> None:
    row = VersionRow(
        model="intent",
        version=1,
        parent=None,
        learner="kernel_lda",
        card=version_card(labels=("a", "b")),
        lineage={"rows": 10},
    )
    ledger.add_version(row)
    ledger.set_version_state("intent", 1, VersionState.EXPORTED, metrics={"accuracy": 0.9}, bundle_sha256="ab")
    published = ledger.set_version_state("intent", 1, VersionState.PUBLISHED)
    again = ledger.set_version_state("intent", 1, VersionState.PUBLISHED)
    assert again.published_at == published.published_at is not None
    stored = ledger.version("intent", 1)
    assert replace(stored, created_at=None, published_at=None, state_at=None) == replace(
        row, state=VersionState.PUBLISHED, metrics={"accuracy": 0.9}, bundle_sha256="ab"
    )
    assert ledger.versions("intent") == (stored,)


def test_some_versions_are_told_without_reading_the_others(ledger: Ledger) -> None:
    for number in (1, 2, 3, 4):
        ledger.add_version(VersionRow(model="intent", version=number))

    def numbers(**asked: Any) -> list[int]:
        return [row.version for row in ledger.versions("intent", **asked)]

    assert (numbers(), numbers(newest=2), numbers(among=[4, 1, 9]), numbers(among=[])) == (
        [1, 2, 3, 4],
        [3, 4],
        [1, 4],
        [],
    )


def test_a_version_is_added_once_and_unknown_ones_and_facts_are_named(ledger: Ledger) -> None:
    ledger.add_version(VersionRow(model="intent", version=1))
    with pytest.raises(Conflict, match="version 1 exists"):
        ledger.add_version(VersionRow(model="intent", version=1))
    with pytest.raises(NotFound, match="no version 9"):
        ledger.set_version_state("intent", 9, VersionState.FAILED)
    with pytest.raises(InputError, match="colour"):
        ledger.set_version_state("intent", 1, VersionState.FAILED, colour="red")
    with pytest.raises(NotFound, match="'other' is not in the ledger"):
        ledger.next_version("other")


# the route


def route(epoch: int, champion: int = 1, **facts: Any) -> Route:
    resident = facts.pop("resident", (champion,))
    return Route(model="intent", epoch=epoch, champion=champion, resident=resident, **facts)


def test_the_route_moves_by_compare_and_swap_and_each_move_is_audited(ledger: Ledger) -> None:
    assert ledger.route("intent") is None
    first = route(1)
    second = route(2, champion=2, previous=1, challenger=3, share=0.25, resident=(1, 2, 3))
    ledger.set_route(first, expected_epoch=0, actor="loop", reason="first version")
    ledger.set_route(second, expected_epoch=1, actor="anna", reason="better")
    assert ledger.route("intent") == second
    entries = ledger.audit_entries("intent")
    assert [(e.actor, e.detail["reason"], e.detail["to"]["champion"]) for e in entries] == [
        ("loop", "first version", 1),
        ("anna", "better", 2),
    ]
    assert entries[1].detail["from"]["champion"] == 1


def test_the_route_makes_its_champion_champion_and_published_versions_that_it_loads_resident(ledger: Ledger) -> None:
    states = {2: VersionState.PUBLISHED, 3: VersionState.REFUSED, 4: VersionState.PUBLISHED}
    for version in range(1, 5):
        state = states.get(version, VersionState.EXPORTED)
        ledger.add_version(VersionRow(model="intent", version=version, state=state))
    ledger.set_route(route(1), expected_epoch=0, actor="a", reason="first")
    ledger.set_route(route(2, resident=(1, 2, 3)), expected_epoch=1, actor="a", reason="loaded")
    assert [row.state.value for row in ledger.versions("intent")] == ["champion", "resident", "refused", "published"]
    ledger.set_route(route(3, champion=2, previous=1, resident=(1, 2)), expected_epoch=2, actor="a", reason="better")
    assert [row.state.value for row in ledger.versions("intent")] == ["resident", "champion", "refused", "published"]


def test_a_late_writer_of_the_route_is_told_seen_and_expected_and_changes_nothing(ledger: Ledger) -> None:
    ledger.set_route(route(1), expected_epoch=0, actor="a", reason="r")
    ledger.set_route(route(2), expected_epoch=1, actor="a", reason="r")
    with pytest.raises(Conflict, match="at epoch 2, expected 1"):
        ledger.set_route(route(2, champion=5), expected_epoch=1, actor="b", reason="r")
    with pytest.raises(DataError, match="new epoch 9 must be 3"):
        ledger.set_route(route(9), expected_epoch=2, actor="b", reason="r")
    assert len(ledger.audit_entries()) == 2


def test_a_retry_of_the_same_route_succeeds_without_a_second_audit_entry(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.set_route(route(1), expected_epoch=0, actor="a", reason="r")
    assert len(ledger.audit_entries()) == 1


def test_of_many_writers_of_one_epoch_exactly_one_wins(ledger: Ledger) -> None:
    results = together(6, lambda i: ledger.set_route(route(1, champion=i + 1), expected_epoch=0, actor="a", reason="r"))
    winners = [result for result in results if isinstance(result, Route)]
    assert len(winners) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 5
    assert ledger.route("intent") == winners[0]


def test_a_moved_route_is_told_after_it_is_written_and_before_it_counts(ledger: Ledger) -> None:
    ledger.set_route(route(1, resident=(1, 2)), expected_epoch=0, actor="a", reason="r")
    followed: list[tuple[Route, Route | None]] = []

    def follow(new: Route) -> None:
        followed.append((new, together(1, lambda _: ledger.route("intent"))[0]))  # what another thread reads meanwhile

    before, after = ledger.move_route(
        "intent", lambda r: replace(r, champion=2, previous=1), actor="anna", reason="better", follow=follow
    )
    assert (before, after.epoch, after.champion) == (route(1, resident=(1, 2)), 2, 2)
    assert followed == [(after, before)]
    assert ledger.route("intent") == after
    assert [
        (e.actor, e.detail["from"]["champion"], e.detail["to"]["champion"]) for e in ledger.audit_entries()[1:]
    ] == [("anna", 1, 2)]


def test_a_route_that_could_not_be_told_is_not_moved(ledger: Ledger) -> None:
    first = ledger.set_route(route(1, resident=(1, 2)), expected_epoch=0, actor="a", reason="r")

    def refuse(_: Route) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        ledger.move_route("intent", lambda r: replace(r, champion=2), actor="a", reason="r", follow=refuse)
    assert ledger.route("intent") == first
    assert len(ledger.audit_entries()) == 1


def test_a_move_to_the_same_route_writes_nothing_and_tells_it_again(ledger: Ledger) -> None:
    first = ledger.set_route(route(1), expected_epoch=0, actor="a", reason="r")
    followed: list[Route] = []
    assert ledger.move_route("intent", lambda r: r, actor="a", reason="r", follow=followed.append) == (first, first)
    assert followed == [first]
    assert len(ledger.audit_entries()) == 1


def test_a_model_without_a_route_cannot_be_moved(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="serves no version yet"):
        ledger.move_route("intent", lambda r: r, actor="a", reason="r", follow=lambda _: None)
    with pytest.raises(NotFound, match="'mood' is not in the ledger"):
        ledger.move_route("mood", lambda r: r, actor="a", reason="r", follow=lambda _: None)


def test_many_movers_follow_each_other_in_the_order_of_the_epochs(ledger: Ledger) -> None:
    ledger.set_route(route(1, resident=(1, 2)), expected_epoch=0, actor="a", reason="r")
    followed: list[int] = []

    def move(_: int) -> object:
        swap = lambda r: replace(r, champion=3 - r.champion)  # noqa: E731
        return ledger.move_route("intent", swap, actor="a", reason="r", follow=lambda r: followed.append(r.epoch))

    results = together(6, move)
    assert all(isinstance(result, tuple) for result in results), results
    assert followed == [2, 3, 4, 5, 6, 7]
    assert ledger.verify_audit().intact


# feedback


def label(prediction: str, name: str, hours: float = 0, key: str | None = None) -> FeedbackRow:
    return FeedbackRow(prediction_id=prediction, label=name, at=at(hours), key=key)


def test_feedback_is_counted_as_new_unchanged_corrected_and_stale(ledger: Ledger) -> None:
    assert ledger.add_feedback("intent", [label("p1", "a"), label("p2", "b")]) == FeedbackReceipt(new=2)
    assert ledger.add_feedback("intent", [label("p1", "a"), label("p2", "b")]) == FeedbackReceipt(unchanged=2)
    assert ledger.add_feedback("intent", [label("p1", "c", 2)]) == FeedbackReceipt(corrected=1)
    assert ledger.add_feedback("intent", [label("p1", "d", 1)]) == FeedbackReceipt(stale=1)
    assert ledger.feedback_labels("intent", ["p1", "p2", "p3"]) == {"p1": "c", "p2": "b"}
    assert ledger.feedback_count("intent") == 2


def test_feedback_whose_first_call_holds_a_correction_of_itself_ends_at_the_newest(ledger: Ledger) -> None:
    rows = [label("p1", "a", 0), label("p1", "b", 2), label("p1", "c", 1)]
    assert ledger.add_feedback("intent", rows) == FeedbackReceipt(new=1, corrected=1, stale=1)
    assert ledger.feedback_labels("intent", ["p1"]) == {"p1": "b"}


def test_feedback_in_any_order_ends_at_the_same_labels(ledger: Ledger) -> None:
    for name, order in (("one", (0, 1, 2)), ("two", (2, 1, 0)), ("three", (1, 2, 0))):
        ledger.register_model(name, {})
        rows = [label("p", "a", 0), label("p", "b", 1), label("p", "c", 2)]
        for index in order:
            ledger.add_feedback(name, [rows[index]])
        assert ledger.feedback_labels(name, ["p"]) == {"p": "c"}


def test_joined_feedback_leaves_the_pending_list_and_a_correction_brings_it_back(ledger: Ledger) -> None:
    ledger.add_feedback("intent", [label("p1", "a"), label("p2", "b")])
    pending = ledger.pending_feedback("intent")
    assert [(row.prediction_id, row.label) for row in pending] == [("p1", "a"), ("p2", "b")]
    assert ledger.mark_joined("intent", pending) == 2
    assert ledger.mark_joined("intent", pending) == 2
    assert ledger.pending_feedback("intent") == ()
    ledger.add_feedback("intent", [label("p2", "c", 1)])
    assert [(row.prediction_id, row.label) for row in ledger.pending_feedback("intent")] == [("p2", "c")]


def test_feedback_corrected_between_read_and_join_stays_pending(ledger: Ledger) -> None:
    ledger.add_feedback("intent", [label("p1", "a")])
    read = ledger.pending_feedback("intent")
    ledger.add_feedback("intent", [label("p1", "b", 1)])
    assert ledger.mark_joined("intent", read) == 0
    assert [row.label for row in ledger.pending_feedback("intent")] == ["b"]


def test_pending_feedback_is_paged_and_can_be_given_up(ledger: Ledger) -> None:
    ledger.add_feedback("intent", [label(f"p{i}", "a") for i in range(5)])
    first = ledger.pending_feedback("intent", 2)
    rest = ledger.pending_feedback("intent", 9, after=first[-1])
    assert [row.prediction_id for row in (*first, *rest)] == [f"p{i}" for i in range(5)]
    now = datetime.now(UTC)
    ledger.postpone("intent", first[:1], now)
    ledger.postpone("intent", rest[:1], now - timedelta(hours=1))
    read = list(ledger.pending_feedback("intent", 1, due_by=now))
    while page := ledger.pending_feedback("intent", 1, after=read[-1], due_by=now):
        read += page
    assert [row.prediction_id for row in read] == ["p1", "p3", "p4", "p2", "p0"], "what was looked for comes last"
    ledger.mark_joined("intent", first, outcome=JoinOutcome.UNMATCHED)
    assert len(ledger.pending_feedback("intent")) == 3


def test_first_feedback_is_paged_and_begins_at_a_moment(ledger: Ledger) -> None:
    ledger.add_feedback("intent", [label("p1", "a"), label("p2", "b", key="k")])
    began = datetime.now(UTC)
    ledger.add_feedback("intent", [label("p3", "c"), label("p4", "d", key="k")])
    first = ledger.first_feedback("intent", 1, since=began)
    assert [(row.prediction_id, row.label) for row in first] == [("p3", "c")]
    ledger.add_feedback("intent", [label("p4", "e", 1), label("p1", "f", 1)])
    rest = ledger.first_feedback("intent", 9, since=began, after_id=first[0].id)
    assert [(row.prediction_id, row.label) for row in rest] == [("p4", "e")]
    assert [row.prediction_id for row in ledger.first_feedback("intent", 9, since=began)] == ["p1", "p3", "p4"]
    ledger.erase_key("intent", "k")
    ledger.add_feedback("intent", [label("p5", "g")])
    after = ledger.first_feedback("intent", 9, since=began, after_id=rest[0].id)
    assert [row.prediction_id for row in after] == ["p5"], "an erased row's number is not given to another"
    newest = ledger.last_feedback_id("intent")
    assert newest == after[0].id == ledger.last_feedback_id("intent", after_id=newest)
    assert ledger.last_feedback_id("nothing", after_id=7) == 7


def test_feedback_rejects_rows_that_cannot_be_labels() -> None:
    with pytest.raises(DataError, match="empty prediction id"):
        label("", "a")
    with pytest.raises(DataError, match="outer spaces"):
        label("p", " a")
    with pytest.raises(DataError, match="without a zone"):
        FeedbackRow(prediction_id="p", label="a", at=datetime(2026, 1, 1))  # noqa: DTZ001


def test_feedback_from_threads_at_once_is_kept_once_each(ledger: Ledger) -> None:
    rows = [label(f"p{i}", "a") for i in range(50)]
    receipts = together(4, lambda _: ledger.add_feedback("intent", rows))
    assert sum(receipt.new for receipt in receipts) == 50  # type: ignore[attr-defined]
    assert ledger.feedback_count("intent") == 50


# examples


def test_examples_are_kept_once_a_normalised_text_with_the_newest_label(ledger: Ledger) -> None:
    first = ledger.add_examples("intent", [example("My card", "lost"), example("hello", "hi")], all_train)
    assert (first.added, first.unchanged) == (2, 0)
    second = ledger.add_examples("intent", [example("my  CARD", "stolen", 1), example("hello", "hi", 1)], all_train)
    assert (second.relabelled, second.confirmed, second.contradictions) == (1, 1, 1)
    late = ledger.add_examples("intent", [example("my card", "fee", 0.5)], all_train)
    assert (late.stale, late.unchanged, late.contradictions) == (1, 0, 1)
    assert ledger.label_counts("intent") == {"hi": 1, "stolen": 1}
    assert ledger.contradiction_count("intent") == 2


def test_examples_are_looked_up_by_their_ids_while_they_are_current(ledger: Ledger) -> None:
    ledger.add_examples("intent", [example("a", "fee"), example("b", "fee")], all_train)
    first, second = (stored.id for stored in ledger.examples("intent"))
    assert ledger.examples_of("intent", [second, first, 999]).keys() == {first, second}
    ledger.add_examples("intent", [example("a", "loan", 1)], all_train)
    assert ledger.examples_of("intent", [first, second]).keys() == {second}
    assert ledger.examples_of("other", [first, second]) == {}
    assert ledger.examples_of("intent", []) == {}


def test_audit_entries_are_read_page_by_page(ledger: Ledger) -> None:
    for number in range(5):
        ledger.audit("test", f"step.{number}", "intent", {})
    last = ledger.audit_head()[0]
    assert [entry.seq for entry in ledger.audit_entries(limit=2, before_seq=last)] == [last - 2, last - 1]
    assert ledger.audit_entries(before_seq=1) == ()


def test_examples_added_again_change_nothing(ledger: Ledger) -> None:
    rows = [example("a", "x"), example("a", "y", 1), example("a", "z", 0.5), example("b", "x")]
    first = ledger.add_examples("intent", rows, all_train)
    assert (first.added, first.relabelled, first.contradictions) == (2, 1, 2)
    again = ledger.add_examples("intent", rows, all_train)
    assert (again.added, again.relabelled) == (0, 0)
    assert ledger.contradiction_count("intent") == 2
    assert {stored.example.label for stored in ledger.examples("intent")} == {"y", "x"}


def test_a_relabelled_example_is_an_arrival_and_unlearnt_again(ledger: Ledger) -> None:
    ledger.add_examples("intent", [example("a"), example("b")], all_train)
    seen = ledger.examples("intent")
    ledger.mark_learnt("intent", [stored.id for stored in seen], 1)
    assert ledger.unlearnt_count("intent") == 0
    ledger.add_examples("intent", [example("a", "other", 1)], all_train)
    fresh = ledger.examples("intent", since_id=seen[-1].id)
    assert [(stored.example.text, stored.example.label) for stored in fresh] == [("a", "other")]
    assert ledger.unlearnt_count("intent") == ledger.unlearnt_count("intent", by=1) == 1
    assert [s.example.text for s in ledger.examples("intent", not_learnt_by=1)] == ["a"]


def test_a_text_never_moves_between_splits_when_its_label_changes(ledger: Ledger) -> None:
    ledger.add_examples("intent", [example("a")], lambda _: Split.HOLDOUT)
    ledger.add_examples("intent", [example("a", "other", 1), example("b")], all_train)
    assert [s.example.label for s in ledger.examples("intent", split=Split.HOLDOUT)] == ["other"]
    assert ledger.label_counts("intent", Split.TRAIN) == {"fee": 1}
    assert ledger.unlearnt_count("intent") == 1


def test_what_a_refused_version_learnt_counts_as_unlearnt(ledger: Ledger) -> None:
    ledger.add_examples("intent", [example("a"), example("b"), example("c")], all_train)
    ids = [stored.id for stored in ledger.examples("intent")]
    ledger.add_version(VersionRow(model="intent", version=1, state=VersionState.CHAMPION))
    ledger.add_version(VersionRow(model="intent", version=2))
    ledger.mark_learnt("intent", ids[:1], 1)
    ledger.mark_learnt("intent", [*ids, 10**9], 2)
    assert ledger.unlearnt_count("intent") == 0
    ledger.set_version_state("intent", 2, VersionState.REFUSED)
    assert ledger.unlearnt_count("intent") == 2
    assert ledger.unlearnt_count("intent", by=2) == 0


def test_examples_of_one_model_say_nothing_about_another(ledger: Ledger) -> None:
    ledger.register_model("other", {})
    ledger.add_examples("intent", [example("a")], all_train)
    assert ledger.examples("other") == ()
    assert ledger.add_examples("other", [example("a", "x")], all_train).added == 1


# the replay buffer


def buffer_state(*texts: str, seen: int = 3, extras: tuple[object, ...] = ()) -> BufferState:
    return BufferState(
        kind=BufferKind.CLASS_BALANCED,
        capacity=4,
        byte_budget=None,
        seen=seen,
        counters={"fee": seen},
        rng={"seed": 7},
        rows=tuple(example(text, key="k" if text == "mine" else None) for text in texts),
        extras=extras,
    )


def test_a_buffer_comes_back_as_it_was_saved(ledger: Ledger) -> None:
    assert ledger.load_buffer("intent") is None
    for state in (
        buffer_state("a", "b", "c", extras=([0.5, 1], [0.25], [])),
        buffer_state(),
        buffer_state("c", "a", seen=9),
    ):
        ledger.save_buffer("intent", state)
        assert ledger.load_buffer("intent") == state


def test_a_buffer_save_writes_only_the_places_that_changed(ledger: Ledger) -> None:
    assert ledger.save_buffer("intent", buffer_state("a", "b", "c")) == 3
    assert ledger.save_buffer("intent", buffer_state("a", "b", "c", seen=4)) == 0
    assert ledger.save_buffer("intent", buffer_state("a", "x", "c", "d")) == 2
    assert ledger.save_buffer("intent", buffer_state("a", "x")) == 0
    assert ledger.load_buffer("intent") == buffer_state("a", "x")


def test_a_failed_transaction_leaves_the_buffer_whole(ledger: Ledger) -> None:
    ledger.save_buffer("intent", buffer_state("a", "b"))

    def interrupted() -> None:
        with ledger.transaction():
            ledger.save_buffer("intent", buffer_state("x", seen=99))
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        interrupted()
    assert ledger.load_buffer("intent") == buffer_state("a", "b")


# cycles, journal, reports, states


def test_one_cycle_is_active_at_a_time_and_it_remembers_its_story(ledger: Ledger) -> None:
    assert ledger.active_cycle("intent") is None
    first = ledger.open_cycle("intent", "drift", {"n": 1})
    with pytest.raises(Conflict, match=f"cycle {first} under way"):
        ledger.open_cycle("intent", "schedule", {})
    ledger.save_cycle(first, "training", {"n": 2})
    active = ledger.active_cycle("intent")
    assert active is not None
    assert (active.id, active.state, active.payload, active.reason) == (first, "training", {"n": 2}, "drift")
    ledger.close_cycle(first, "promoted", "all good")
    ledger.close_cycle(first, "promoted")
    with pytest.raises(Conflict, match="closed as 'promoted'"):
        ledger.close_cycle(first, "refused")
    with pytest.raises(Conflict, match="closed"):
        ledger.save_cycle(first, "x", {})
    second = ledger.open_cycle("intent", "schedule", {})
    assert [cycle.id for cycle in ledger.cycles("intent")] == [second, first]
    assert ledger.cycle(first).note == "all good"
    with pytest.raises(NotFound):
        ledger.cycle(999)


def test_the_newest_attempt_is_the_last_closed_cycle_in_the_champions_place(
    ledger: Ledger,
) -> None:
    assert ledger.newest_attempt("intent", 1) is None
    told: list[tuple[int, int, str, bool | None]] = []
    attempts: list[tuple[int, dict[str, Any], dict[str, Any], str]] = [
        (1, {"last_example_id": 40}, {"gate": {"accepted": False}}, "refused"),
        (1, {"last_example_id": 50, "rows": 9}, {"training": {}}, "failed"),
        (1, {"reason": "of an earlier release, it failed before it learnt"}, {}, "failed"),
        (1, {"labels_until": 55}, {}, "aborted"),
        (2, {"last_example_id": 60}, {"gate": {"accepted": True}}, "promoted"),
    ]
    for parent, lineage, metrics, outcome in attempts:
        cycle, number = ledger.open_cycle("intent", "drift", {}), ledger.next_version("intent")
        row = VersionRow(
            model="intent", version=number, parent=parent, cycle_id=cycle, lineage=lineage, metrics=metrics
        )
        ledger.add_version(row)
        before = ledger.newest_attempt("intent", parent)
        assert before is None or before.version < number, "its cycle is under way"
        ledger.close_cycle(cycle, outcome)
        found = ledger.newest_attempt("intent", parent)
        assert found is not None
        told.append((found.version, found.last_example_id, found.outcome, found.gate_accepted))
    first = told[0][0]
    assert told == [
        (first, 40, "refused", False),
        (first + 1, 50, "failed", None),
        (first + 1, 50, "failed", None),
        (first + 3, 55, "aborted", None),
        (first + 4, 60, "promoted", True),
    ]


def test_of_two_cycles_opened_at_once_one_wins(ledger: Ledger) -> None:
    results = together(4, lambda _: ledger.open_cycle("intent", "drift", {}))
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 3


def test_the_journal_of_a_cycle_holds_each_intent_and_outcome_in_order(ledger: Ledger) -> None:
    cycle = ledger.open_cycle("intent", "drift", {})
    ledger.journal(cycle, "intent", "train", Phase.INTENT, {"run": 1})
    ledger.journal(cycle, "intent", "train", Phase.OUTCOME, {"ok": True})
    ledger.journal(cycle, "intent", "export", Phase.INTENT, {"try": 1})
    ledger.journal(cycle, "intent", "export", Phase.INTENT, {"try": 2})
    ledger.journal(cycle, "intent", "export", Phase.OUTCOME, None)
    assert [row.payload for row in ledger.journal_of(cycle)] == [{"run": 1}, {"ok": True}, {"try": 1}, {"try": 2}, None]
    assert [(row.step, row.phase.value) for row in ledger.journal_of(cycle)] == [
        ("train", "intent"),
        ("train", "outcome"),
        ("export", "intent"),
        ("export", "intent"),
        ("export", "outcome"),
    ]


def test_drift_reports_come_back_newest_first(ledger: Ledger) -> None:
    rows = [
        DriftReportRow(model="intent", version=1, at=at(i), rows=300, state="ok", payload={"p": i}, window_from=at(0))
        for i in range(3)
    ]
    ids = [ledger.add_drift_report(row) for row in rows]
    assert ledger.drift_reports("intent", 2) == (replace(rows[2], id=ids[2]), replace(rows[1], id=ids[1]))


def test_history_that_is_over_and_old_is_forgotten_but_for_the_newest(ledger: Ledger) -> None:
    now = T0
    ledger._clock = lambda: now
    ledger.register_model("other", {"task": "text_classification"})
    cycles, commands, reports = [], [], []
    for day in range(6):
        now = at(24 * day)
        for model in ("intent", "other"):
            cycle = ledger.open_cycle(model, "drift", {})
            ledger.journal(cycle, model, "train", Phase.INTENT, {})
            ledger.journal(cycle, model, "train", Phase.OUTCOME, {})
            ledger.close_cycle(cycle, "promoted")
            command = ledger.request_command(model, "retrain", {}, "ann")
            report = ledger.add_drift_report(
                DriftReportRow(model=model, version=1, at=now, rows=300, state="ok", payload={})
            )
            if model == "intent":
                cycles.append(cycle)
                commands.append(command)
                reports.append(report)
                if day != 1:
                    ledger.finish_command(command, "done")
    entries = len(ledger.audit_entries())

    def left() -> tuple[list[int], list[int], list[int]]:
        kept = [cycle for cycle in cycles if ledger.journal_of(cycle)]
        commands = sorted(row.id for row in ledger.commands("intent"))
        return kept, commands, sorted(row.id or 0 for row in ledger.drift_reports("intent"))

    assert ledger.forget_history("intent", at(24 * 3), keep=200) == Forgotten(journal=0, commands=0, drift_reports=0)
    assert left() == (cycles, commands, reports)
    assert ledger.forget_history("intent", at(24 * 3), keep=2) == Forgotten(journal=6, commands=2, drift_reports=3)
    assert left() == (cycles[3:], [commands[1], *commands[3:]], reports[3:]), "what is not carried out yet stays"
    ledger.forget_history("intent", at(24 * 99), keep=2)
    assert left() == (cycles[4:], [commands[1], *commands[4:]], reports[4:]), "the newest stay however old they are"
    assert [row.id for row in ledger.cycles("intent")] == cycles[::-1], "versions name them"
    assert (len(ledger.commands("other")), len(ledger.drift_reports("other"))) == (6, 6)
    assert len(ledger.audit_entries()) == entries
    assert ledger.verify_audit().intact


def test_the_journal_of_a_cycle_under_way_is_never_forgotten(ledger: Ledger) -> None:
    cycle = ledger.open_cycle("intent", "drift", {})
    ledger.journal(cycle, "intent", "train", Phase.INTENT, {})
    newer = [ledger.request_command("intent", "retrain", {}, "ann") for _ in range(3)]
    assert ledger.forget_history("intent", at(10**6), keep=1).journal == 0
    assert len(ledger.journal_of(cycle)) == 1
    assert len(ledger.commands("intent")) == len(newer)


def test_history_is_forgotten_in_bounded_steps(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perennial.ops.ledger.pruning._AT_ONCE", 4)
    for i in range(8):
        ledger.add_drift_report(DriftReportRow(model="intent", version=1, at=at(i), rows=300, state="ok", payload={}))
    gone = [ledger.forget_history("intent", at(99), keep=1).drift_reports for _ in range(3)]
    assert gone == [4, 3, 0]


def test_a_monitor_state_is_replaced_whole(ledger: Ledger) -> None:
    assert ledger.get_state("intent", "detector") is None
    ledger.put_state("intent", "detector", {"evidence": 0.5})
    ledger.put_state("intent", "detector", {"evidence": 0.75})
    assert ledger.get_state("intent", "detector") == {"evidence": 0.75}


# commands, erasure, notices


def test_a_command_is_handed_out_once_and_again_after_its_taker_died(ledger: Ledger) -> None:
    first = ledger.request_command("intent", "promote", {"version": 3}, "anna")
    second = ledger.request_command("intent", "pause", {}, "ben")
    assert [(c.id, c.kind, c.args, c.actor) for c in ledger.take_commands("intent")] == [
        (first, "promote", {"version": 3}, "anna"),
        (second, "pause", {}, "ben"),
    ]
    assert ledger.take_commands("intent") == ()
    ledger.finish_command(first, "done")
    ledger.finish_command(first, "done twice")
    assert ledger.command(first).outcome == "done"
    assert ledger.reclaim_commands("intent") == 1
    assert [c.id for c in ledger.take_commands("intent")] == [second]
    assert [entry.action for entry in ledger.audit_entries()] == ["command.promote", "command.pause"]
    with pytest.raises(NotFound):
        ledger.finish_command(999, "done")


def test_erasing_a_person_removes_every_row_and_names_the_versions(ledger: Ledger) -> None:
    ledger.add_feedback("intent", [label("p1", "a", key="k"), label("p2", "a", key="other"), label("p3", "a")])
    rows = [
        example("mine", key="k"),
        example("by id", prediction_id="p1"),
        example("logged", prediction_id="p3"),
        example("not mine", key="other"),
    ]
    ledger.add_examples("intent", rows, all_train)
    ids = {s.example.text: s.id for s in ledger.examples("intent")}
    ledger.mark_learnt("intent", [ids["mine"], ids["not mine"]], 1)
    ledger.mark_learnt("intent", [ids["by id"]], 3)
    ledger.mark_learnt("intent", [ids["not mine"]], 2)
    ledger.save_buffer("intent", buffer_state("mine", "theirs"))
    erasable, foretold = ledger.rows_of_key("intent", "k", prediction_ids=["p3"])
    receipt = ledger.erase_key("intent", "k", prediction_ids=["p3"], actor="dpo")
    assert foretold == receipt
    assert len(erasable) == 3
    assert "not mine" not in {row.text for row in erasable}
    assert (receipt.feedback, receipt.examples, receipt.buffer_rows, receipt.versions) == (2, 3, 1, (1, 3))
    assert ledger.feedback_labels("intent", ["p1", "p2", "p3"]) == {"p2": "a"}
    assert [s.example.text for s in ledger.examples("intent")] == ["not mine"]
    left = ledger.load_buffer("intent")
    assert left is not None
    assert [row.text for row in left.rows] == ["theirs"]
    again = ledger.erase_key("intent", "k", prediction_ids=["p3"])
    assert (again.feedback, again.examples, again.buffer_rows, again.versions) == (0, 0, 0, ())
    assert "'k'" not in str(ledger.audit_entries())


def test_a_buffer_can_be_saved_after_an_erasure_left_a_gap(ledger: Ledger) -> None:
    ledger.save_buffer("intent", buffer_state("a", "mine", "c"))
    ledger.erase_key("intent", "k")
    ledger.save_buffer("intent", buffer_state("a", "c", "d"))
    assert ledger.load_buffer("intent") == buffer_state("a", "c", "d")


def test_a_notice_is_claimed_once_and_after_an_error_a_few_times_more(ledger: Ledger) -> None:
    results = together(4, lambda _: ledger.claim_notice("intent", "drift", "e1", "webhook"))
    assert sorted(map(bool, results)) == [False, False, False, True]
    ledger.finish_notice("intent", "drift", "e1", "webhook", error="503")
    assert ledger.claim_notice("intent", "drift", "e1", "webhook", attempts=2)
    ledger.finish_notice("intent", "drift", "e1", "webhook", error="503")
    assert not ledger.claim_notice("intent", "drift", "e1", "webhook", attempts=2)
    assert ledger.claim_notice("intent", "drift", "e1", "webhook", attempts=3)
    ledger.finish_notice("intent", "drift", "e1", "webhook")
    assert not ledger.claim_notice("intent", "drift", "e1", "webhook", attempts=9)
    assert ledger.claim_notice("intent", "drift", "e2", "webhook")
    assert [row.episode for row in ledger.notices("intent")] == ["e2", "e1"]


# transactions and fences


def test_calls_in_one_transaction_are_kept_or_lost_together(ledger: Ledger) -> None:
    with ledger.transaction():
        ledger.put_state("intent", "a", 1)
        assert ledger.get_state("intent", "a") == 1
        with ledger.transaction():
            ledger.put_state("intent", "b", 2)

    def interrupted() -> None:
        with ledger.transaction():
            ledger.put_state("intent", "a", 9)
            ledger.audit("x", "y", None, {})
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        interrupted()
    assert (ledger.get_state("intent", "a"), ledger.get_state("intent", "b")) == (1, 2)
    assert ledger.audit_entries() == ()


def test_a_fenced_write_happens_only_while_its_epoch_is_the_newest(ledger: Ledger) -> None:
    first = Fence(name="loop", epoch=ledger.acquire_lease("loop", "one"))
    with ledger.fenced(first):
        ledger.put_state("intent", "a", 1)
        assert ledger.acquire_lease("loop", "two") == 2
        with pytest.raises(LeaseLost, match="two at epoch 2, not at epoch 1"):
            ledger.put_state("intent", "a", 2)
    with pytest.raises(LeaseLost):
        ledger.check_fence(first)
    with pytest.raises(LeaseLost, match="nobody"), ledger.fenced(Fence(name="none", epoch=1)):
        ledger.put_state("intent", "a", 3)
    assert ledger.get_state("intent", "a") == 1
    assert ledger.lease("loop") == (2, "two")
    ledger.put_state("intent", "a", 4)


def test_no_part_of_the_ledger_hides_a_method_of_another() -> None:
    owners: dict[str, str] = {}
    for part in Ledger.__mro__[1:-1]:
        for name in vars(part):
            if not name.startswith("__"):
                assert name not in owners, f"{name} is defined by {owners[name]} and {part.__name__}"
                owners[name] = part.__name__


def test_an_erased_text_is_in_no_file_of_an_sqlite_ledger(tmp_path: Path) -> None:
    with Ledger.open(fresh_url("sqlite", tmp_path)) as ledger:
        ledger.register_model("intent", {})
        secret = "quartz jackdaw sphinx"
        ledger.add_examples("intent", [example(secret, key="k"), example("other")], all_train)
        ledger.save_buffer("intent", replace(buffer_state(), rows=(example(secret, key="k"),)))
        assert any(secret.encode() in path.read_bytes() for path in tmp_path.iterdir())
        ledger.erase_key("intent", "k")
        assert not any(secret.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_writers_that_hold_each_other_up_are_told_to_retry(tmp_path: Path) -> None:
    """Two transactions that lock two models in opposite order: PostgreSQL ends one of them."""
    with Ledger.open(fresh_url("postgresql", tmp_path)) as ledger:
        for name in ("a", "b"):
            ledger.register_model(name, {})
        gate = threading.Barrier(2)

        def crossing(index: int) -> None:
            with ledger.transaction():
                ledger.put_state("ab"[index], "x", 1)
                gate.wait()
                ledger.put_state("ba"[index], "x", 1)

        results = together(2, crossing)
        assert sorted(type(result).__name__ for result in results) == ["Conflict", "NoneType"]


def test_times_that_a_wrong_clock_stamped_ahead_are_dated_anew(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = timedelta(seconds=5)
    with monkeypatch.context() as right:
        right.setattr(ledger, "_clock", lambda: at(0))
        for version in (1, 2):
            ledger.add_version(VersionRow(model="intent", version=version))
        first = ledger.open_cycle("intent", "a test", {})
        ledger.close_cycle(first, "refused")
    with monkeypatch.context() as wrong:
        wrong.setattr(ledger, "_clock", lambda: at(9_000))
        ledger.set_version_state("intent", 2, VersionState.FAILED)
        second = ledger.open_cycle("intent", "a test", {})
    monkeypatch.setattr(ledger, "_clock", lambda: at(1))
    assert ledger.date_versions_anew("intent", ahead=ahead) == (2,)
    assert ledger.date_cycles_anew("intent", ahead=ahead) == (second,)
    assert [row.state_at for row in ledger.versions("intent")] == [at(0), at(1)]
    assert [ledger.cycle(number).opened_at for number in (first, second)] == [at(0), at(1)]
    monkeypatch.setattr(ledger, "_clock", lambda: at(1) - ahead)
    assert ledger.date_versions_anew("intent", ahead=ahead) == ()
    assert ledger.date_cycles_anew("intent", ahead=ahead) == ()
    assert ledger.date_versions_anew("another", ahead=ahead) == ()


def test_a_jobs_last_success_is_told_and_never_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    epoch = ledger.acquire_lease("loop", "test")
    assert ledger.last_success("watch") is None
    for name in ("watch", "idle"):
        ledger.save_job(name, {"interval_s": 3600.0}, at(0))
    outcomes = (RunOutcome.DONE, RunOutcome.DONE, RunOutcome.FAILED, RunOutcome.MISSED)
    for hour, outcome in enumerate(outcomes):
        monkeypatch.setattr(ledger, "_clock", lambda hour=hour: at(hour + 0.5))
        run = ledger.claim_run("watch", expected_due=at(hour), slot=at(hour), next_due=at(hour + 1), epoch=epoch)
        assert run is not None
        ledger.finish_run(run.id, outcome)
    assert ledger.last_success("watch") == at(1.5)
    assert ledger.last_success("idle") is None
    assert ledger.forget_runs(at(100)) == 3
    assert ledger.last_success("watch") == at(1.5)
    assert ledger.forget_runs(at(100)) == 0


def test_keys_are_found_by_what_they_hold(ledger: Ledger) -> None:
    kept = (" ann ", "ann", "\tann", "bob", "a%n", "annika", None)
    rows = [example(f"text {number}", key=key) for number, key in enumerate(kept)]
    ledger.add_examples("intent", rows, all_train)
    ledger.register_model("another", {})
    ledger.add_examples("another", [example("text", key=" ann of another")], all_train)
    assert ledger.keys_holding("intent", ["ann"]) == {" ann ", "ann", "\tann", "annika"}
    assert ledger.keys_holding("intent", ["a%n"]) == {"a%n"}
    assert ledger.keys_holding("intent", ["zoe", "bob"]) == {"bob"}


def impression(user: str, relevances: dict[str, float], hours: float) -> Impression:
    return Impression(input=Query(user=user, at=at(0), context='a "b"'), target=relevances, at=at(hours), key=user)


def test_rows_of_another_task_come_back_as_they_were(ledger: Ledger) -> None:
    ledger.register_model("shop", {"task": "ranking"})
    rows = [impression("u1", {"tea": 1.0, "milk": 0.5}, 0), impression("u2", {}, 0)]
    assert ledger.add_examples("shop", rows, all_train).added == 2
    assert [stored.example for stored in ledger.examples("shop")] == rows
    assert (ledger.example_count("shop", Split.TRAIN), ledger.example_count("shop", Split.HOLDOUT)) == (2, 0)
    again = [impression("u1", {"milk": 0.5, "tea": 1.0}, 1), impression("u2", {"tea": 2.0}, 1)]
    receipt = ledger.add_examples("shop", again, all_train)
    assert (receipt.confirmed, receipt.relabelled, receipt.contradictions) == (1, 1, 0)
    state = BufferState(
        kind=BufferKind.RESERVOIR, capacity=5, byte_budget=None, seen=2, counters={}, rng={}, rows=tuple(again)
    )
    assert (ledger.save_buffer("shop", state), ledger.save_buffer("shop", state)) == (2, 0)
    assert ledger.load_buffer("shop") == state
    inputs = [cell for place, cell in ledger.cells(["nothing"]) if place == "example.input"]
    assert sum('"u2"' in cell for cell in inputs) == 2, "a search finds what stands inside"
    ledger.add_examples("intent", [example("a text")], all_train)
    assert "a text" not in [cell for _, cell in ledger.cells(["nothing"])]
    assert ledger.erase_key("shop", "u1", actor="test").examples == 1
    assert [stored.example for stored in ledger.examples("shop")] == again[1:]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_targets_that_add_up_are_joined_whatever_their_order(ledger: Ledger, order: tuple[int, ...]) -> None:
    ledger.register_model("shop", {"task": "ranking"})
    targets = [{"tea": 0.2}, {"milk": 0.0}, {"tea": 1.0}]
    for number in order:
        ledger.add_examples("shop", [impression("u1", targets[number], number)], all_train)
        label = json.dumps(targets[number])
        ledger.add_feedback("shop", [FeedbackRow(prediction_id="0" * 32, label=label, at=at(number), key="u1")])
    (stored,) = ledger.examples("shop")
    assert (stored.example.target, stored.example.at) == ({"tea": 1.0, "milk": 0.0}, at(2))
    (pending,) = ledger.pending_feedback("shop")
    assert (json.loads(pending.label), pending.at) == ({"tea": 1.0, "milk": 0.0}, at(2))
    again = ledger.add_feedback("shop", [FeedbackRow(prediction_id="0" * 32, label='{"tea": 0.2}', at=at(0), key="u1")])
    assert again.unchanged == 1
    assert ledger.pending_feedback("shop") == (pending,)


def test_rows_of_what_was_erased_are_told_from_others(ledger: Ledger) -> None:
    marks = [
        ("ann", None, at(1)),
        ("ann", None, at(200)),
        ("bob", None, at(1)),
        (None, "f" * 32, at(1)),
        (None, None, at(1)),
    ]
    assert ledger.erased_among("intent", marks) == (False,) * 5
    ledger.erase_key("intent", "ann", prediction_ids=["f" * 32], erased_at=at(50))
    assert ledger.erased_among("intent", marks) == (True, False, False, True, False)
