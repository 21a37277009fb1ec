"""One candidate step by step, on a lock file: when it leads, when it stops, and what it tells."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from perennial.continual.errors import DependencyUnreachable, LeaseLost
from perennial.ops.ledger import Fence, Ledger
from perennial.ops.scheduling.leader import AdvisoryLock, FileLock, Leader, lock_for
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
    epochs: list[int | None] = []
    door = Door()
    leader = Leader(ledger, holder="one", lock=door, on_change=epochs.append)
    assert [leader.step(), leader.step(), leader.epoch] == [1, 1, 1]
    door.held = False
    assert [leader.step(), leader.epoch] == [None, None]
    assert [leader.step(), leader.step()] == [2, 2]
    leader.stop()
    assert epochs == [1, None, 2, None]
    assert door.held is False


def test_an_election_that_fails_frees_the_lock_and_is_tried_again(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door()
    leader = Leader(ledger, holder="one", lock=door)
    door.error = True
    assert (leader.step(), door.released) == (None, 1)
    assert "leader.election_failed" in caplog.messages
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


def test_a_stop_waits_for_no_try_that_hangs_and_the_lock_is_given_back_when_it_ends(ledger: Ledger) -> None:
    door, reached, answer = Door(), threading.Event(), threading.Event()

    def hang() -> bool:
        reached.set()
        answer.wait()
        return True

    leader = Leader(ledger, holder="one", lock=door, poll_s=0.01)
    leader.start()
    wait_until(lambda: leader.epoch == 1)
    door.alive = hang  # type: ignore[method-assign]
    assert reached.wait(30)
    assert leader.stop(within_s=0.05) is False
    assert (leader.epoch, door.held) == (None, True)
    answer.set()
    wait_until(lambda: not door.held)
    assert leader.stop() is True


class Server:
    """PostgreSQL as far as a lock sees it: sessions, and one lock that may be free."""

    def __init__(self) -> None:
        self.free, self.broken = True, False
        self.statements: list[tuple[str, Any]] = []
        self.connected: list[tuple[str, dict[str, Any]]] = []
        self.closed = 0

    def connect(self, conninfo: str, **facts: Any) -> "Server":
        self.connected.append((conninfo, facts))
        return self

    def execute(self, statement: str, parameters: Any = None) -> "Server":
        if self.broken:
            raise psycopg.OperationalError("the connection broke")
        self.statements.append((statement, parameters))
        return self

    def fetchone(self) -> tuple[bool]:
        return (self.free,)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr("psycopg.connect", made.connect)
    return made


def test_a_session_holds_the_lock_until_it_is_closed(server: Server) -> None:
    lock = AdvisoryLock("postgresql://host/db", "perennial.loop")
    assert (lock.alive(), server.statements) == (False, [])
    server.free = False
    assert (lock.acquire(), lock.alive()) == (False, False)
    server.free = True
    assert (lock.acquire(), lock.alive()) == (True, True)
    assert len(server.connected) == 1, "one session for all tries"
    lock.release()
    lock.release()
    assert (lock.alive(), server.closed) == (False, 1)
    assert lock.acquire()
    assert len(server.connected) == 2


def test_a_session_that_broke_is_closed_and_another_one_is_tried(server: Server) -> None:
    lock = AdvisoryLock("postgresql://host/db", "perennial.loop")
    server.broken = True
    with pytest.raises(DependencyUnreachable, match="the leader's lock on PostgreSQL failed: the connection broke"):
        lock.acquire()
    assert (server.closed, lock.alive()) == (1, False)
    server.broken = False
    assert lock.acquire()
    server.broken = True
    assert (lock.alive(), server.closed) == (False, 2)
    server.broken = False
    assert (lock.alive(), lock.acquire(), len(server.connected)) == (False, True, 3)


def test_each_name_has_a_lock_of_its_own_for_ever(server: Server) -> None:
    for name in ("perennial.loop", "perennial.other"):
        AdvisoryLock("postgresql://host/db", name).acquire()
    keys = [parameters for _, parameters in server.statements]
    assert keys == [(6810435481821947733,), (-6407655920889174457,)]
    assert all(-(2**63) <= key < 2**63 for (key,) in keys)


def test_either_side_notices_a_dead_peer_within_about_five_seconds(server: Server) -> None:
    AdvisoryLock("postgresql://host/db", "perennial.loop").acquire()
    ((conninfo, facts),) = server.connected
    assert conninfo == "postgresql://host/db"
    assert facts == {
        "autocommit": True, "connect_timeout": 5, "keepalives": 1, "keepalives_idle": 2, "keepalives_interval": 1,
        "keepalives_count": 3, "tcp_user_timeout": 5000,
        "options": "-c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3",
    }  # fmt: skip
    assert facts["keepalives_idle"] + facts["keepalives_interval"] * facts["keepalives_count"] == 5


def test_the_lock_of_a_ledger_on_a_server_is_taken_there_with_its_password(server: Server) -> None:
    url = make_url("postgresql+psycopg://ann:secret@host:5433/db")
    ledger: Any = SimpleNamespace(engine=SimpleNamespace(url=url))
    assert lock_for(ledger, "loop").acquire()
    assert lock_for(ledger, "other").acquire()
    assert {conninfo for conninfo, _ in server.connected} == {"postgresql://ann:secret@host:5433/db"}
    assert len({parameters for _, parameters in server.statements}) == 2
