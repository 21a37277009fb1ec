"""What was erased stays erased, on SQLite and on PostgreSQL alike, whoever writes at the same time."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import LeaseLost, Refused
from perennial.continual.records import Example, Origin, Split
from perennial.continual.replay import BufferKind, BufferState
from perennial.ops.ledger import Conflict, ExamplesReceipt, FeedbackReceipt, FeedbackRow, Ledger
from perennial.ops.traffic import TrafficLog, TrafficWriter
from perennial.ops.watching.collector import collect
from tests.component.traffic_rows import columns
from tests.contract.clock import Clock

pytestmark = pytest.mark.component
ME = "person-7"


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2026, 1, 10, tzinfo=UTC))


def prediction(moment: datetime, number: int = 0) -> str:
    return f"{int(moment.timestamp() * 1000):012x}{number:020x}"


def train(_: str) -> Split:
    return Split.TRAIN


def texts(ledger: Ledger, model: str = "intent") -> list[str]:
    return [row.example.text for row in ledger.examples(model)]


def labelled(text: str, at: datetime, **facts: Any) -> Example:
    return Example(text=text, label="fee", at=at, **{"origin": Origin.FEEDBACK, "key": ME, **facts})


def test_labels_of_an_erased_request_or_from_before_are_told_as_erased(ledger: Ledger, clock: Clock) -> None:
    before, after = clock.now - timedelta(hours=1), clock.now + timedelta(hours=1)
    ledger.erase_key("intent", ME, prediction_ids=["logged"])
    clock.now = after
    rows = [
        FeedbackRow(prediction_id="logged", label="fee", at=after),  # without the key, and late
        FeedbackRow(prediction_id=prediction(before), label="fee", at=after, key=ME),
        FeedbackRow(prediction_id="unknown", label="fee", at=before, key=ME),
        FeedbackRow(prediction_id=prediction(after), label="fee", at=after, key=ME),  # a new request of the person
        FeedbackRow(prediction_id=prediction(before, 1), label="fee", at=before, key="somebody"),
    ]
    assert ledger.add_feedback("intent", rows) == FeedbackReceipt(new=2, erased=3)
    assert {row.key for row in ledger.newest_feedback("intent", 9)} == {ME, "somebody"}
    assert ledger.add_feedback("other", rows) == FeedbackReceipt(new=5), "the other model was not erased"


def test_examples_from_before_are_refused_and_later_requests_are_new(ledger: Ledger, clock: Clock) -> None:
    before, after = clock.now - timedelta(hours=1), clock.now + timedelta(hours=1)
    ledger.erase_key("intent", ME, prediction_ids=["logged"])
    rows = [
        labelled("joined late", after, key=None, prediction_id="logged"),
        labelled("asked before", after, prediction_id=prediction(before)),
        labelled("given before", before),
        labelled("in a file", after, origin=Origin.SEED),
        labelled("imported", after, origin=Origin.IMPORT),
        labelled("asked after", after, prediction_id=prediction(after)),
        labelled("somebody's", before, key="somebody"),
    ]
    assert ledger.add_examples("intent", rows, train) == ExamplesReceipt(added=2, erased=5)
    assert texts(ledger) == ["asked after", "somebody's"]


def test_a_key_erased_from_every_model_is_refused_by_models_that_come_later(ledger: Ledger, clock: Clock) -> None:
    token, at = ledger.begin_erasure("intent", ME, every_model=True)
    ledger.end_erasure("intent", token)
    ledger.register_model("newcomer", {})
    for model in ("intent", "other", "newcomer"):
        assert ledger.add_examples(model, [labelled("old", at - timedelta(days=1))], train).erased == 1
    clock.now += timedelta(days=1)
    ledger.erase_key("intent", ME)
    late = labelled("between", at + timedelta(hours=1))
    assert ledger.add_examples("intent", [late], train).erased == 1, "erased again, later"
    assert ledger.add_examples("other", [late], train).added == 1


@pytest.mark.parametrize("extras", [(), (1.0, 2.0, 3.0)])
def test_a_buffer_loaded_before_an_erasure_cannot_bring_a_row_back(
    ledger: Ledger, clock: Clock, extras: tuple[float, ...]
) -> None:
    before = clock.now - timedelta(days=1)
    rows = (
        labelled("a", before, key="somebody"),
        labelled("mine", before),
        labelled("by id", before, key=None, prediction_id="logged"),
    )
    loaded = BufferState(
        kind=BufferKind.RESERVOIR,
        capacity=9,
        byte_budget=None,
        seen=3,
        counters={},
        rng={"name": "x", "seed": 1},
        rows=rows,
        extras=extras,
    )
    ledger.save_buffer("intent", loaded)
    ledger.erase_key("intent", ME, prediction_ids=["logged"])
    ledger.save_buffer("intent", loaded)
    kept = ledger.load_buffer("intent")
    assert kept is not None
    assert ([row.text for row in kept.rows], kept.extras) == (["a"], extras[:1])


class ErasedMeanwhile(TrafficLog):
    """A log whose caller is held up after a look-up, until an erasure has run in a thread of its own."""

    def __init__(self, root: Path, ledger: Ledger) -> None:
        super().__init__(root)
        self.ledger, self.interrupt = ledger, True

    def lookup(self, prediction_ids: Sequence[str], columns: Sequence[str] | None = None) -> Any:
        found = super().lookup(prediction_ids, columns)
        if self.interrupt:
            self.interrupt = False
            erasing = threading.Thread(target=self.erase_everywhere)
            erasing.start()
            erasing.join()
        return found

    def erase_everywhere(self) -> None:
        token, at = self.ledger.begin_erasure("intent", ME)
        self.bar(ME, at)
        table = self.read(columns=["prediction_id", "key"])
        ids = [row["prediction_id"] for row in table.to_pylist() if row["key"] == ME]
        assert self.erase(ME) == len(ids) == 1
        self.ledger.erase_key("intent", ME, prediction_ids=ids, erased_at=at)
        self.ledger.end_erasure("intent", token)


def test_a_row_erased_between_the_look_up_and_the_insert_of_a_join_stays_away(
    ledger: Ledger, clock: Clock, tmp_path: Path
) -> None:
    log = ErasedMeanwhile(tmp_path / "traffic", ledger)
    with_key = columns([0, 1], dimension=None) | {"key": [ME, None]}
    writer = TrafficWriter(tmp_path / "traffic", "router")
    writer.append(with_key)
    clock.now = datetime(2026, 6, 1, tzinfo=UTC)
    late = clock.now + timedelta(days=1)  # labels given after the erasure, without the key
    ledger.add_feedback(
        "intent", [FeedbackRow(prediction_id=name, label="fee", at=late) for name in with_key["prediction_id"]]
    )
    for _ in range(2):
        collect(ledger, log, "intent", holdout_share=0.1, now=late)
        assert texts(ledger) == ["text 1"]
    again = [FeedbackRow(prediction_id=with_key["prediction_id"][0], label="fee", at=late)]
    assert ledger.add_feedback("intent", again) == FeedbackReceipt(erased=1)
    writer.append(with_key)  # what a writer still held in memory
    assert log.read(columns=["text"])["text"].to_pylist() == ["text 1", "text 1"]
    writer.close()


def test_a_cycle_and_an_erasure_exclude_each_other(ledger: Ledger, clock: Clock) -> None:
    cycle = ledger.open_cycle("intent", "test", {})
    with pytest.raises(Refused, match=f"cycle {cycle} under way"):
        ledger.begin_erasure("intent", ME)
    assert ledger.add_examples("intent", [labelled("old", clock.now)], train).added == 1, "nothing was refused yet"
    ledger.close_cycle(cycle, "aborted")
    token, _ = ledger.begin_erasure("intent", ME)
    with pytest.raises(Conflict, match="an erasure in intent is under way"):
        ledger.open_cycle("intent", "test", {})
    with pytest.raises(Refused, match="an erasure in intent is under way"):
        ledger.begin_erasure("intent", "another")
    ledger.close_cycle(ledger.open_cycle("other", "test", {}), "aborted")
    clock.now += timedelta(minutes=4)
    ledger.renew_erasure("intent", token)
    clock.now += timedelta(minutes=4)
    assert ledger.erasure_under_way("intent") is not None
    ledger.end_erasure("intent", token)
    assert ledger.erasure_under_way("intent") is None
    ledger.open_cycle("intent", "test", {})


@pytest.mark.parametrize("state", ["probation", "promoted"])
def test_a_cycle_whose_challenger_is_the_champion_hinders_no_erasure(ledger: Ledger, state: str) -> None:
    cycle = ledger.open_cycle("intent", "test", {})
    ledger.save_cycle(cycle, state, {})
    token, _ = ledger.begin_erasure("intent", ME)
    ledger.renew_erasure("intent", token)
    with pytest.raises(Conflict, match="an erasure in intent is under way"):
        ledger.open_cycle("intent", "a retraining", {})
    ledger.save_cycle(cycle, "rolled_back", {})
    with pytest.raises(LeaseLost):
        ledger.renew_erasure("intent", token)
    ledger.end_erasure("intent", token)
    with pytest.raises(Refused, match=f"cycle {cycle} under way \\(rolled_back\\)"):
        ledger.begin_erasure("intent", ME)


def test_an_erasure_that_was_killed_keeps_no_cycle_away_and_cannot_go_on(ledger: Ledger, clock: Clock) -> None:
    token, _ = ledger.begin_erasure("intent", ME)
    clock.now += timedelta(minutes=6)
    cycle = ledger.open_cycle("intent", "test", {})
    with pytest.raises(LeaseLost, match="taken for dead"):
        ledger.renew_erasure("intent", token)
    ledger.close_cycle(cycle, "aborted")
    second, _ = ledger.begin_erasure("intent", ME)
    with pytest.raises(LeaseLost):
        ledger.renew_erasure("intent", token)
    ledger.renew_erasure("intent", second)


def test_of_a_cycle_and_an_erasure_that_begin_at_once_one_is_refused(ledger: Ledger) -> None:
    for _ in range(10):
        gate, outcomes = threading.Barrier(2), []

        def attempt(begin: Any, gate: threading.Barrier = gate, outcomes: list[Any] = outcomes) -> None:
            gate.wait()
            try:
                outcomes.append(begin())
            except (Conflict, Refused) as refused:
                outcomes.append(refused)

        tries = (lambda: ledger.open_cycle("intent", "test", {}), lambda: ledger.begin_erasure("intent", ME))
        threads = [threading.Thread(target=attempt, args=(begin,)) for begin in tries]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(isinstance(outcome, Exception) for outcome in outcomes) == 1
        for outcome in outcomes:
            if isinstance(outcome, int):
                ledger.close_cycle(outcome, "aborted")
            elif isinstance(outcome, tuple):
                ledger.end_erasure("intent", outcome[0])


def test_no_table_and_no_audit_entry_holds_the_key(ledger: Ledger) -> None:
    token, _ = ledger.begin_erasure("intent", "someone@example.org", every_model=True)
    ledger.erase_key("intent", "someone@example.org", prediction_ids=["logged"])
    ledger.end_erasure("intent", token)
    assert ledger.key_digest("someone@example.org") in str(ledger.audit_entries())
    with ledger.engine.connect() as connection:
        for name in ("tombstone", "erasure", "audit_entry"):
            held = str(connection.exec_driver_sql(f"SELECT * FROM {name}").all())
            assert "someone" not in held
            assert "logged" not in held


def test_what_was_replaced_leaves_the_files_of_sqlite_too(tmp_path, clock):
    mark = "0199abcd0123456789ab0123456789ab"
    path = tmp_path / "flushed.db"
    with Ledger.open(f"sqlite:///{path}", clock=clock) as ledger:
        ledger.register_model("intent", {})
        ledger.put_state("intent", "cursor", {"id": mark})
        assert ledger.flush_deletions()
        assert mark.encode() in path.read_bytes()
        ledger.put_state("intent", "cursor", {"id": "none"})
        assert ledger.flush_deletions()
        wal = path.with_name(path.name + "-wal")
        assert mark.encode() not in path.read_bytes() + (wal.read_bytes() if wal.exists() else b"")
