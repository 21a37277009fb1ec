"""Whether each part of a running service did its work lately: one registry, read without waiting for anybody."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from perennial.ops.views.health import PartView

__all__ = ["Health", "PartHealth", "job_parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartHealth:
    """One part: healthy or not, when it last did its work, and after how long that is too long ago."""

    healthy: bool
    last_s: float | None = None  # ago
    limit_s: float | None = None
    error: str = ""
    note: str = ""

    def view(self) -> PartView:
        """Return it for a person."""
        return PartView(
            healthy=self.healthy,
            last_s=None if self.last_s is None else round(self.last_s, 1),
            limit_s=self.limit_s,
            error=self.error or None,
            note=self.note or None,
        )


@dataclass(slots=True)
class _Part:
    check: Callable[[], str]
    limit_s: float
    done: float
    error: str = ""
    note: str = ""


class Health:
    """Looks at parts again and again in a thread each, so that one that hangs hides no other.

    A part is unhealthy while its last look failed, and when none has ended for `limit_s`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._parts: dict[str, _Part] = {}
        self._stop = threading.Event()
        self._every_s: float | None = None  # None until it began

    def watch(self, name: str, check: Callable[[], str], *, limit_s: float) -> None:
        """Look at a part with `check`, which returns a note or raises; in the place of an earlier one of this name."""
        known = name in self._parts
        self._parts = {**self._parts, name: _Part(check=check, limit_s=limit_s, done=self._clock())}
        if self._every_s is not None and not known:
            self._begin(name)

    def forget(self, name: str) -> None:
        """Look at a part no more."""
        self._parts = {other: part for other, part in self._parts.items() if other != name}

    def start(self, every_s: float = 2.0) -> None:
        """Begin to look, also at what is to be watched later."""
        self._every_s = every_s
        for name in self._parts:
            self._begin(name)

    def _begin(self, name: str) -> None:
        threading.Thread(target=self._look_on, args=(name,), name=f"health-{name}", daemon=True).start()

    def stop(self) -> None:
        """Look no more; a look that hangs is not waited for."""
        self._stop.set()

    def look(self, name: str) -> None:
        """Look once, here."""
        part = self._parts[name]
        try:
            part.note = part.check()
        except Exception as exc:  # whatever it is, it is what people must be told
            part.error = f"{type(exc).__name__}: {exc}"
        else:
            part.error = ""
            part.done = self._clock()

    def parts(self) -> Mapping[str, PartHealth]:
        """Return how each part was at its last look."""
        now = self._clock()
        return {
            name: PartHealth(
                healthy=not part.error and now - part.done <= part.limit_s,
                last_s=now - part.done,
                limit_s=part.limit_s,
                error=part.error or (f"no look ended for {now - part.done:.0f} s" * (now - part.done > part.limit_s)),
                note=part.note,
            )
            for name, part in self._parts.items()
        }

    def _look_on(self, name: str) -> None:
        while not self._stop.is_set() and name in self._parts:
            self.look(name)
            self._stop.wait(self._every_s)


def job_parts(facts: Mapping[str, Any], *, leading: bool, now: float) -> Mapping[str, PartHealth]:
    """Return how each job is; where another process leads, none of them is this process's concern."""
    parts = {}
    for name, job in facts.items():
        age_s, limit_s = job.age_s(now), job.limit_s
        silent = leading and job.silent(now)
        running = "" if job.began is None else f"runs for {now - job.began:.0f} s"
        note = "paused" if job.paused else running if leading else "another process leads"
        parts[name] = PartHealth(
            healthy=not silent,
            last_s=age_s if leading else None,
            limit_s=limit_s,
            error=job.error or ("it has not ended well for too long" if silent else ""),
            note=note,
        )
    return parts
