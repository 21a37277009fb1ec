"""One leader among processes: whoever holds the lock, under an epoch that every side effect carries.

The lock elects; the epoch protects. A leader that was paused, cut off or believed dead finds its epoch outdated at its
next write and does nothing.
"""

import fcntl
import hashlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from perennial.continual.errors import DependencyUnreachable, LeaseLost, PerennialError
from perennial.ops.ledger import Fence, Ledger

if TYPE_CHECKING:
    import psycopg

__all__ = ["AdvisoryLock", "FileLock", "Leader", "Lock", "lock_for"]

_log = logging.getLogger(__name__)
STOP_S = 10.0  # for a try that is under way


class Lock(Protocol):
    """A lock that its holder's death frees."""

    def acquire(self) -> bool:
        """Try once, without waiting, and return whether the lock is held now."""
        ...

    def alive(self) -> bool:
        """Return whether the lock still is held; cheap enough for a heartbeat."""
        ...

    def release(self) -> None:
        """Let go. Calling it again does nothing."""
        ...


class FileLock:
    """An flock beside an SQLite ledger, for processes of one machine; the kernel frees it when its holder dies.

    The descriptor is closed in programs that the leader starts, but not in a process that it forks without exec: such
    a child would keep the lock alive. Training runs are spawned.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Try to take the lock."""
        if self._descriptor is not None:
            return self.alive()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return self.alive()

    def alive(self) -> bool:
        """Return whether the locked file still is the one in its place; a removed file could be locked twice."""
        if self._descriptor is None:
            return False
        try:
            same = os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            same = False
        if not same:
            self.release()
        return same

    def release(self) -> None:
        """Free the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class AdvisoryLock:
    """A PostgreSQL session lock on a connection of its own; the server frees it when the session ends.

    Never behind a pooler in transaction mode: there a session is nobody's.
    """

    def __init__(self, conninfo: str, name: str) -> None:
        self._conninfo = conninfo
        self._key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
        self._connection: psycopg.Connection[Any] | None = None
        self._held = False

    def acquire(self) -> bool:
        """Try to take the lock, connecting first if needed."""
        import psycopg

        try:
            if self._connection is None:
                self._connection = self._connect()
            row = self._connection.execute("SELECT pg_try_advisory_lock(%s)", (self._key,)).fetchone()
        except psycopg.Error as error:
            self.release()
            raise DependencyUnreachable(f"the leader's lock on PostgreSQL failed: {error}; retrying") from error
        self._held = row is not None and bool(row[0])
        return self._held

    def alive(self) -> bool:
        """Return whether the session that holds the lock answers."""
        import psycopg

        if self._connection is None or not self._held:
            return False
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            self.release()
            return False
        return True

    def release(self) -> None:
        """End the session."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._held = None, False

    def _connect(self) -> "psycopg.Connection[Any]":
        """Connect so that either side notices a dead peer within about 5 s."""
        import psycopg

        server = "-c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3"
        return psycopg.connect(
            self._conninfo,
            autocommit=True,
            connect_timeout=5,
            keepalives=1,
            keepalives_idle=2,
            keepalives_interval=1,
            keepalives_count=3,
            tcp_user_timeout=5000,
            options=server,
        )


def lock_for(ledger: Ledger, name: str) -> Lock:
    """Return the lock that fits the ledger's database."""
    url = ledger.engine.url
    if url.get_backend_name() == "sqlite":
        return FileLock(Path(f"{url.database}.{name}.lock"))
    return AdvisoryLock(url.set(drivername="postgresql").render_as_string(hide_password=False), f"perennial.{name}")


class Leader:
    """Keeps trying to lead, and knows whether it does.

    `start` runs `step` every `poll_s` in a thread, so that a dead leader is replaced within about that time.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        name: str = "loop",
        holder: str | None = None,
        lock: Lock | None = None,
        poll_s: float = 0.25,
        on_change: Callable[[int | None], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._name = name
        self._holder = holder or f"{socket.gethostname()}:{os.getpid()}"
        self._lock = lock or lock_for(ledger, name)
        self._poll_s = poll_s
        self._on_change = on_change
        self._epoch: int | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def epoch(self) -> int | None:
        """The epoch under which this process leads, or None when it does not."""
        return self._epoch

    def fence(self) -> Fence:
        """Return the proof to carry with side effects.

        Raises:
            LeaseLost: this process does not lead.
        """
        epoch = self._epoch
        if epoch is None:
            raise LeaseLost(f"{self._holder} does not lead {self._name}; nothing was done")
        return Fence(name=self._name, epoch=epoch)

    def guard(self, epoch: int) -> None:
        """Make sure, in the ledger, that `epoch` still leads: for a side effect outside the ledger.

        Raises:
            LeaseLost: another leader took over, or nobody leads under this epoch.
        """
        self._ledger.check_fence(Fence(name=self._name, epoch=epoch))

    def step(self) -> int | None:
        """Try to lead, or check that this process still does; return the epoch."""
        if self._epoch is not None:
            if not self._lock.alive():
                self._set(None)
            return self._epoch
        try:
            if self._lock.acquire():
                self._set(self._ledger.acquire_lease(self._name, self._holder))
        except (PerennialError, OSError) as error:
            _log.warning("leader.election_failed", extra={"lease": self._name, "error": str(error)})
            self._lock.release()
        return self._epoch

    def start(self) -> None:
        """Begin to stand for election. Calling it again while it runs does nothing."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name=f"leader-{self._name}", daemon=True)
            self._thread.start()

    def stop(self, *, within_s: float = STOP_S) -> bool:
        """Step down, so that another process leads at its next try; returns whether it could be done in time.

        A try that hangs, on a database that does not answer, say, gives the lock back when it ends.
        """
        self._stopping.set()
        if self._thread is None:
            self._step_down()
            return True
        self._thread.join(within_s)
        if self._thread.is_alive():
            self._set(None)
            return False
        self._thread = None
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.step()
            self._stopping.wait(self._poll_s)
        self._step_down()

    def _step_down(self) -> None:
        self._set(None)
        self._lock.release()

    def _set(self, epoch: int | None) -> None:
        if epoch == self._epoch:
            return
        self._epoch = epoch
        event = "leader.lost" if epoch is None else "leader.elected"
        _log.info(event, extra={"lease": self._name, "holder": self._holder, "epoch": epoch})
        if self._on_change is not None:
            self._on_change(epoch)
