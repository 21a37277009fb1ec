"""What people are told of a model: each thing once, on every channel, whatever dies in between."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from perennial.continual.errors import DependencyUnreachable
from perennial.continual.records import Route
from perennial.ops.ledger import CycleRow
from perennial.ops.notify import Message, Notifier
from perennial.ops.notify.event_notifier import RESTARTED, EventNotifier
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.state import ERRORS, RETRIES, ErrorState, RetriedStep
from perennial.ops.traffic import TrafficLog
from perennial.ops.watching.quarantine_watch import QUARANTINED, note_quarantined
from perennial.ops.watching.watcher import Watcher
from tests.component.town import Town

pytestmark = pytest.mark.component


class Box:
    """A channel that keeps what it gets, or is out of order for so many messages."""

    name = "box"

    def __init__(self, *, broken_for: int = 0) -> None:
        self.got: list[Message] = []
        self.broken_for = broken_for

    def send(self, message: Message) -> None:
        if self.broken_for:
            self.broken_for -= 1
            raise DependencyUnreachable("the box is out of order")
        self.got.append(message)

    @property
    def alerts(self) -> list[tuple[str, str]]:
        return [(message.alert, message.episode) for message in self.got]


def notifier_of(town: Town, box: Box) -> EventNotifier:
    return EventNotifier(town.ledger, "intent", Notifier(town.ledger, [box]))


def close_cycle(town: Town, outcome: str, note: str) -> CycleRow:
    number = town.ledger.open_cycle("intent", "a test", {"challenger": 2}, state="training")
    town.ledger.close_cycle(number, outcome, note)
    detail = {"cycle": number, "version": 2, "outcome": outcome, "note": note}
    town.ledger.audit("loop", "cycle.closed", "intent", detail)
    return town.ledger.cycle(number)


def test_the_first_pass_tells_nothing_of_the_past(town: Town) -> None:
    close_cycle(town, "failed", "long ago")
    box = Box()
    assert notifier_of(town, box).notify() == ""
    assert notifier_of(town, box).notify() == ""
    assert box.got == []


def test_each_outcome_of_a_cycle_is_told_once_with_its_reason(town: Town) -> None:
    box = Box()
    notifier_of(town, box).notify()
    cycles = [close_cycle(town, outcome, f"because {outcome}") for outcome in ("refused", "failed", "promoted")]
    cycles.append(close_cycle(town, "rolled_back", "because rolled_back"))
    for _ in range(3):
        notifier_of(town, box).notify()  # a new one each time, as after a restart
    assert box.alerts == [(str(c.outcome), f"cycle-{c.id}") for c in cycles]
    assert [message.body for message in box.got] == [f"because {c.outcome}" for c in cycles]
    assert box.got[0].title == f"version 2 was refused (cycle {cycles[0].id})"


def test_a_drift_is_told_once_an_episode(town: Town) -> None:
    box = Box()
    notifier_of(town, box).notify()
    watcher = Watcher(town.ledger, town.workspace, "intent", town.traffic, EventFeed())
    town.ask(300)
    watcher.watch()
    notifier_of(town, box).notify()
    assert box.got == []
    town.ask(600, new=0.5)
    assert sum(signal.alert for signal in watcher.watch()) >= 2, "a lasting drift alerts again after the cooldown"
    notifier_of(town, box).notify()
    assert box.alerts == [("drift", "drift-1")]
    assert box.got[0].title.endswith("new requests")
    assert "perennial drift explain --model intent --report" in box.got[0].body
    assert box.got[0].facts["version"] == 1


def test_an_operators_change_of_champion_is_told_and_the_loops_own_is_not(town: Town) -> None:
    box = Box()
    notifier_of(town, box).notify()
    after = [
        (Route(model="intent", epoch=2, champion=2, previous=1, resident=(1, 2)), "loop"),
        (Route(model="intent", epoch=3, champion=1, previous=2, resident=(1, 2)), "ann"),
        (Route(model="intent", epoch=4, champion=1, previous=2, resident=(1, 2, 3)), "ann"),
        (Route(model="intent", epoch=5, champion=3, previous=1, resident=(1, 2, 3)), "ann"),
    ]
    for route, actor in after:
        town.ledger.set_route(route, expected_epoch=route.epoch - 1, actor=actor, reason="a test")
    notifier_of(town, box).notify()
    assert box.alerts == [("rolled_back", "route-3"), ("promoted", "route-5")]
    assert [message.title for message in box.got] == ["ann put back version 1", "ann promoted version 3"]


def test_a_promotion_is_told_when_it_happens_and_once_and_a_rollback_beside_the_next_cycle_too(town: Town) -> None:
    """Its probation may last a week."""
    box = Box()
    notifier_of(town, box).notify()
    number = town.ledger.open_cycle("intent", "a test", {"challenger": 2}, state="promoting")
    route = Route(model="intent", epoch=2, champion=2, previous=1, resident=(1, 2))
    town.ledger.set_route(route, expected_epoch=1, actor="loop", reason=f"cycle {number}")
    notifier_of(town, box).notify()
    assert box.alerts == [("promoted", f"cycle-{number}")]
    assert box.got[0].title == f"version 2 is champion (cycle {number})"
    town.ledger.close_cycle(number, "promoted", "the next cycle began")
    detail = {"cycle": number, "version": 2, "outcome": "promoted", "note": "the next cycle began"}
    town.ledger.audit("loop", "cycle.closed", "intent", detail)
    notifier_of(town, box).notify()
    assert len(box.got) == 1
    facts = {"cycle": number, "version": 2, "to": 1, "note": "worse: -5 points"}
    town.ledger.audit("loop", "probation.rolled_back", "intent", facts)
    notifier_of(town, box).notify()
    assert box.alerts[1:] == [("rolled_back", f"cycle-{number}")]
    assert (box.got[1].title, box.got[1].body) == (f"version 2 was rolled back (cycle {number})", "worse: -5 points")


def test_restarts_and_a_wait_for_approval_are_told(town: Town) -> None:
    box = Box()
    notifier_of(town, box).notify()
    town.ledger.audit("loop", RESTARTED, "intent", {"restarts": 1})
    town.ledger.audit("loop", RESTARTED, "intent", {"restarts": 2})
    number = town.ledger.open_cycle("intent", "drift", {"challenger": 2}, state="approval")
    for _ in range(2):
        notifier_of(town, box).notify()
    assert [alert for alert, _ in box.alerts] == ["triton", "triton", "approval"]
    assert box.alerts[-1] == ("approval", f"cycle-{number}")


@pytest.mark.parametrize(
    ("state", "minutes", "messages"), [("rolled_back", 2, 1), ("rolled_back", 0, 0), ("promoted", 2, 0)]
)
def test_a_rollback_that_cannot_be_carried_out_is_told_after_a_minute(
    town: Town, state: str, minutes: int, messages: int
) -> None:
    box = Box()
    notifier_of(town, box).notify()
    number = town.ledger.open_cycle("intent", "drift", {"challenger": 2}, state=state)
    since = datetime.now(UTC) - timedelta(minutes=minutes)
    wait = RetriedStep(cycle=number, step="RollBack", error="the disk refuses", since=since.isoformat())
    RETRIES.keep(town.ledger, "intent", wait)
    for _ in range(2):
        notifier_of(town, box).notify()
    assert box.alerts == [("stuck", f"cycle-{number}")] * messages
    assert all("the disk refuses" in message.body for message in box.got)


@pytest.mark.parametrize(("broken_for", "messages"), [(2, 2), (3, 1)])
def test_a_dead_receiver_is_tried_again_a_bounded_number_of_times(
    make_town: Callable[..., Town], broken_for: int, messages: int
) -> None:
    town = make_town()
    box = Box(broken_for=broken_for)
    notifier_of(town, box).notify()
    close_cycle(town, "failed", "first")
    for _ in range(6):
        notifier_of(town, box).notify()
    close_cycle(town, "refused", "second")
    for _ in range(2):
        notifier_of(town, box).notify()
    assert len(box.got) == messages
    assert box.alerts[-1][0] == "refused", "a message that nobody took holds up no other"


def test_a_lasting_rise_of_labelled_errors_is_told_once(town: Town) -> None:
    box = Box()
    notifier_of(town, box).notify()
    for cursor in (40, 80):
        alarm = ErrorState(version=1, cursor=cursor, bound=0.1, run_length=1e6, alarm_since="2026-03-01T00:00:05+00:00")
        ERRORS.keep(town.ledger, "intent", alarm)
        notifier_of(town, box).notify()
    assert box.alerts == [("drift", "errors-1-20260301T000005")]
    assert "change of concept" in box.got[0].body


def test_each_damaged_file_that_was_set_aside_is_told_once(town: Town) -> None:
    box = Box()
    notifier_of(town, box).notify()
    folder = town.workspace.traffic("intent") / "parquet"
    folder.mkdir(parents=True, exist_ok=True)
    for number in (1, 2):
        (folder / f"{number}-{number}-damaged.parquet").write_text("no table")
        town.traffic.compact()
        town.traffic.read()
        for _ in range(3):
            note_quarantined(town.ledger, "intent", TrafficLog(town.workspace.traffic("intent")))
            notifier_of(town, box).notify()
        entries = [entry for entry in town.ledger.audit_entries("intent") if entry.action == QUARANTINED]
        assert [entry.detail["file"] for entry in entries] == [f"{n}-{n}-damaged.parquet" for n in range(1, number + 1)]
        assert box.alerts == [("damage", f"quarantine-{entry.seq}") for entry in entries]
        assert f"{number}-{number}-damaged.parquet lies in" in box.got[-1].body
        assert box.got[-1].facts["cause"]
    town.traffic.drop_quarantined([found.name for found in town.traffic.quarantined()])
    (folder / "1-1-damaged.parquet").write_text("no table, and again under the same name")
    town.traffic.read()
    assert note_quarantined(town.ledger, "intent", town.traffic) == 1
    notifier_of(town, box).notify()
    assert len(box.got) == 3
