"""One leader at a time, on the real locks of both databases."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from perennial.continual.errors import LeaseLost
from perennial.ops.ledger import Ledger
from perennial.ops.scheduling import Leader
from tests.component.databases import BACKENDS, fresh_url

pytestmark = [pytest.mark.component, pytest.mark.paired]


@pytest.fixture(params=BACKENDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(fresh_url(request.param, tmp_path)) as opened:
        yield opened


@pytest.fixture
def candidate(ledger: Ledger) -> Iterator[Callable[[str], Leader]]:
    made: list[Leader] = []

    def make(holder: str) -> Leader:
        made.append(Leader(ledger, holder=holder, poll_s=0.02))
        return made[-1]

    yield make
    for leader in made:
        leader.stop()


def takes_over(leader: Leader) -> int | None:
    """PostgreSQL frees a lock a moment after its holder let go."""
    end = time.monotonic() + 30
    while leader.step() is None and time.monotonic() < end:
        time.sleep(0.01)
    return leader.epoch


def test_one_candidate_leads_and_the_next_takes_over_with_a_higher_epoch(candidate: Callable[[str], Leader]) -> None:
    first, second = candidate("one"), candidate("two")
    assert [first.step(), second.step(), first.step(), second.step()] == [1, None, 1, None]
    first.stop()
    assert takes_over(second) == 2
    assert first.step() is None


def test_a_replaced_leader_is_refused_by_its_guard_and_its_fence(
    ledger: Ledger, candidate: Callable[[str], Leader]
) -> None:
    first, second = candidate("one"), candidate("two")
    first.step()
    fence = first.fence()
    first.guard(1)
    first.stop()
    takes_over(second)
    with pytest.raises(LeaseLost, match="two at epoch 2"):
        first.guard(1)
    with pytest.raises(LeaseLost), ledger.fenced(fence):
        ledger.audit("one", "late", None, {})
    with pytest.raises(LeaseLost, match="does not lead"):
        first.fence()
    second.guard(2)
    assert ledger.audit_entries() == ()


def test_leases_of_other_names_do_not_disturb_each_other(ledger: Ledger) -> None:
    leaders = [Leader(ledger, name=name, holder=name) for name in ("loop", "reports")]
    assert [leader.step() for leader in leaders] == [1, 1]
    for leader in leaders:
        leader.stop()


def test_a_started_candidate_leads_by_itself_and_tells_of_the_change(ledger: Ledger) -> None:
    import threading

    epochs: list[int | None] = []
    led = threading.Event()

    def on_change(epoch: int | None) -> None:
        epochs.append(epoch)
        led.set()

    leader = Leader(ledger, holder="one", poll_s=0.02, on_change=on_change)
    leader.start()
    leader.start()
    assert led.wait(20)
    assert leader.epoch == 1
    leader.stop()
    assert epochs == [1, None]


def test_a_lock_file_that_was_removed_ends_the_leadership(tmp_path: Path) -> None:
    with Ledger.open(fresh_url("sqlite", tmp_path)) as ledger:
        leader = Leader(ledger, holder="one")
        assert leader.step() == 1
        (lock,) = tmp_path.glob("*.lock")
        lock.unlink()
        assert leader.step() is None
        assert leader.step() == 2
        leader.stop()


def test_a_session_that_the_server_ended_ends_the_leadership(tmp_path: Path) -> None:
    with Ledger.open(fresh_url("postgresql", tmp_path)) as ledger:
        leader = Leader(ledger, holder="one")
        assert leader.step() == 1
        with ledger.engine.begin() as connection:
            ended = connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
            ).all()
        assert ended == [(True,)]
        assert leader.step() is None
        assert leader.step() == 2
        leader.stop()
