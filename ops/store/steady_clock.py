"""The time by which old things are deleted: it does not follow a wall clock that jumps ahead, until that has stood."""

import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from perennial.continual.atomic_file import write_atomically

__all__ = ["SteadyClock", "boot_id", "since_boot_s"]

logger = logging.getLogger(__name__)
_JUMP_S = 5.0  # between two looks; smaller steps are corrections
_KEPT_S = 600.0  # between two writes while nothing jumps


def since_boot_s() -> float:
    """Seconds since the machine started, sleep included; nobody can set this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Names this run of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class SteadyClock:
    """Compares the wall clock with the time since boot at each look. Safe to share between threads.

    A jump ahead is taken off until it has stood for `stands_s`: as long as old things are kept, so that what is
    deleted then is really that old. A jump back takes it off at once. Kept in a file, so that a restart forgets
    nothing; a machine that starts with a wrong clock is not noticed.
    """

    def __init__(
        self,
        path: Path,
        *,
        stands_s: float,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = since_boot_s,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        self._path, self._stands_s = path, stands_s
        self._wall, self._steady, self._boot = wall, steady, boot()
        self._guard = threading.Lock()
        self._ahead_s = self._stood_s = 0.0
        self._last_jump = ""
        self._offset, self._looked_at = wall() - steady(), steady()
        self._kept_at = -_KEPT_S
        self._read()

    def now(self) -> datetime:
        """The time, without what the wall clock jumped ahead."""
        with self._guard:
            self._look()
            return datetime.fromtimestamp(self._wall() - self._ahead_s, UTC)

    def describe_jump(self) -> str:
        """The last jump that was seen, and what follows from it; empty while there was none."""
        with self._guard:
            self._look()
            held = f"; nothing is deleted by the {self._ahead_s:.0f} s that it is ahead" if self._ahead_s else ""
            return self._last_jump + held

    def _look(self) -> None:
        wall, steady = self._wall(), self._steady()
        jump, passed = wall - steady - self._offset, steady - self._looked_at
        self._offset, self._looked_at = wall - steady, steady
        before = self._ahead_s
        if abs(jump) > _JUMP_S:
            self._ahead_s = max(0.0, self._ahead_s + jump)
            self._stood_s = 0.0
            at = datetime.fromtimestamp(wall, UTC)
            self._last_jump = f"was set by {jump:+.0f} s at {at:%Y-%m-%d %H:%M:%S} UTC"
            logger.warning("clock.jumped", extra={"by_s": round(jump, 1), "ahead_s": round(self._ahead_s, 1)})
        elif self._ahead_s:
            self._stood_s += passed
            if self._stood_s >= self._stands_s:
                self._ahead_s = 0.0
        if self._ahead_s != before or steady - self._kept_at >= _KEPT_S:
            self._keep(wall, steady)

    def _keep(self, wall: float, steady: float) -> None:
        self._kept_at = steady
        document = {
            "boot": self._boot,
            "offset": self._offset,
            "wall": wall,
            "ahead_s": self._ahead_s,
            "stood_s": self._stood_s,
        }
        try:
            write_atomically(self._path, json.dumps(document), durable=False)
        except OSError as exc:  # a full disk; it is known here all the same
            logger.warning("clock.not_kept", extra={"reason": str(exc)})

    def _read(self) -> None:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            offset, wall = float(document["offset"]), float(document["wall"])
            ahead_s, stood_s, boot = float(document["ahead_s"]), float(document["stood_s"]), str(document["boot"])
        except (OSError, ValueError, LookupError, TypeError):
            return
        if boot == self._boot:
            self._offset = offset  # the next look sees a jump since then
            self._ahead_s, self._stood_s = ahead_s, stood_s
        else:
            self._ahead_s = max(0.0, ahead_s - max(0.0, wall - self._wall()))
            self._stood_s = stood_s
