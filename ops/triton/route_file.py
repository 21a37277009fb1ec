"""The router's side of the route: read anew when the file changed, and which arm a request belongs to."""

import hashlib
import json
import logging
from pathlib import Path

from continual.errors import DataError, DependencyUnreachable
from continual.records import Arm, Route

__all__ = ["RouteFile", "arm_of"]

logger = logging.getLogger(__name__)
_STEPS = 1 << 53


class RouteFile:
    """Follows one route file; costs one `stat` while nothing changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._route: Route | None = None

    def current(self) -> Route:
        """The route in force; a torn or vanished file leaves the last good one in force.

        Raises:
            DependencyUnreachable: there has never been a good one.
        """
        try:
            stat = self._path.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if stamp != self._stamp:
                told = json.loads(self._path.read_text(encoding="utf-8"))
                self._route = Route(**{**told, "resident": tuple(told["resident"])})
                self._stamp = stamp
        except (OSError, ValueError, KeyError, TypeError, DataError) as exc:
            logger.warning("route.unreadable", extra={"path": str(self._path), "error": str(exc)})
        if self._route is None:
            raise DependencyUnreachable(f"no version is routed yet: {self._path} is missing or unreadable")
        return self._route


def arm_of(route: Route, key: str) -> Arm:
    """Which arm answers a request with this key.

    A key has one fixed place in [0, 1) for all time, and the challenger owns [0, share): the same key stays on its arm
    across restarts, and a changed share moves only the keys between the old share and the new.

    >>> route = Route(model="intent", epoch=1, champion=1, challenger=2, share=0.25, resident=(1, 2))
    >>> sum(arm_of(route, f"customer {i}") is Arm.CHALLENGER for i in range(1000))
    241
    """
    if route.challenger is None or route.share <= 0:
        return Arm.CHAMPION
    digest = hashlib.blake2b(f"{route.model}\0{key}".encode(), digest_size=8).digest()
    place = (int.from_bytes(digest, "big") >> 11) / _STEPS
    return Arm.CHALLENGER if place < route.share else Arm.CHAMPION
