"""One candidate step by step, on a lock file: when it leads, when it stops, and what it tells."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from continual.errors import DependencyUnreachable, LeaseLost
from ops.ledger import Fence, Ledger
from ops.scheduling.leader import FileLock, Leader, lock_for
from tests.component.databases import fresh_url


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(fresh_url("sqlite", tmp_path)) as opened:
        yield opened


class Door:
    """A lock that a test opens, closes and breaks."""

    def __init__(self) -> None:
        self.free, self.held, self.error = True, False, False
        self.released = 0

    def acquire(self) -> bool:
        if self.error:
            raise DependencyUnreachable("the database is away")
        self.held = self.free
        return self.held

    def alive(self) -> bool:
        return self.held

    def release(self) -> None:
        self.held = False
        self.released += 1


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def test_a_lock_file_is_held_by_one_and_freed_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, second = FileLock(path), FileLock(path)
    assert (first.alive(), first.acquire(), first.acquire(), first.alive()) == (False, True, True, True)
    assert (second.acquire(), second.alive()) == (False, False)
    assert path.stat().st_mode & 0o777 == 0o600
    first.release()
    first.release()
    assert (first.alive(), second.acquire(), first.acquire()) == (False, True, False)
    second.release()


def test_waiting_for_a_lock_file_leaves_no_file_open(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.acquire()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        assert second.acquire() is False
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    first.release()
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_file_that_was_removed_or_replaced_is_held_no_more(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "lock"
    lock = FileLock(path)
    assert lock.acquire()
    path.unlink()
    if replaced:
        path.touch()
    assert lock.acquire() is False
    assert lock.alive() is False
    assert lock.acquire() is True
    lock.release()


def test_the_lock_of_an_sqlite_ledger_lies_beside_it_one_a_name(ledger: Ledger, tmp_path: Path) -> None:
    loop, other = lock_for(ledger, "loop"), lock_for(ledger, "other")
    assert (loop.acquire(), other.acquire(), lock_for(ledger, "loop").acquire()) == (True, True, False)
    assert {path.name for path in tmp_path.glob("*.lock")} == {"ledger.db.loop.lock", "ledger.db.other.lock"}
    loop.release()
    other.release()


def test_each_change_is_told_once_and_a_lost_lock_ends_the_lead(ledger: Ledger) -> None:
    told: list[int | None] = []
    door = Door()
    leader = Leader(ledger, holder="one", lock=door, on_change=told.append)
    assert [leader.step(), leader.step(), leader.epoch] == [1, 1, 1]
    door.held = False
    assert [leader.step(), leader.epoch] == [None, None]
    assert [leader.step(), leader.step()] == [2, 2]
    leader.stop()
    assert told == [1, None, 2, None]
    assert door.held is False


def test_an_election_that_fails_frees_the_lock_and_is_tried_again(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door()
    leader = Leader(ledger, holder="one", lock=door)
    door.error = True
    assert (leader.step(), door.released) == (None, 1)
    assert "leader_election_failed" in caplog.messages
    door.error, door.free = False, False
    assert (leader.step(), door.released) == (None, 1)
    door.free = True
    assert leader.step() == 1


def test_a_fence_names_the_lease_and_the_epoch_and_nobody_has_one_without_leading(ledger: Ledger) -> None:
    leader = Leader(ledger, name="night", holder="one", lock=Door())
    with pytest.raises(LeaseLost, match="one does not lead night; nothing was done"):
        leader.fence()
    leader.step()
    assert leader.fence() == Fence(name="night", epoch=1)
    leader.guard(1)
    with pytest.raises(LeaseLost):
        leader.guard(2)


def test_a_candidate_is_called_loop_and_its_holder_by_host_and_process(ledger: Ledger) -> None:
    leader = Leader(ledger, lock=Door())
    with pytest.raises(LeaseLost, match=rf"\S+:{os.getpid()} does not lead loop"):
        leader.fence()


def test_a_started_candidate_leads_by_itself_and_starts_again_after_a_stop(ledger: Ledger) -> None:
    door = Door()
    leader = Leader(ledger, holder="one", lock=door, poll_s=0.01)
    leader.start()
    thread = leader._thread
    leader.start()
    assert leader._thread is thread
    wait_until(lambda: leader.epoch == 1)
    door.held = False
    wait_until(lambda: leader.epoch == 2)
    leader.stop()
    assert thread is not None
    assert (thread.is_alive(), thread.daemon, leader.epoch, door.held) == (False, True, None, False)
    leader.start()
    wait_until(lambda: leader.epoch == 3)
    leader.stop()
    leader.stop()
