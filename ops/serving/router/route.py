"""The route as the router sees it: re-read when the file changes, and a stable side for each key."""

import hashlib
import json
import logging
from pathlib import Path

from perennial.continual.errors import NotFound, PerennialError
from perennial.continual.records import Arm, Route

__all__ = ["RouteFile", "WaitingVersion", "pick_arm"]

logger = logging.getLogger(__name__)
_RANGE = 2.0**64


class RouteFile:
    """A route file that others replace. A torn or wrong one is reported once, and the last good route stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._route: Route | None = None

    def current(self) -> Route:
        """The route now; costs one `stat` while the file stays the same.

        Raises:
            NotFound: there has never been a good route.
        """
        try:
            status = self._path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if stamp != self._seen:
                content = self._path.read_bytes()
                self._seen = stamp
                self._route = self._parse(content)
        except (OSError, ValueError, TypeError, KeyError, PerennialError) as exc:
            logger.warning("route.unreadable", extra={"path": str(self._path), "reason": str(exc)})
        if self._route is None:
            raise NotFound(f"no route at {self._path}; publish a version first, then ask again")
        return self._route

    def _parse(self, data: bytes) -> Route:
        content = json.loads(data)
        route = Route(**{**content, "resident": tuple(content["resident"])})
        if self._route is not None and route.epoch < self._route.epoch:
            logger.warning("route.older", extra={"epoch": route.epoch, "held": self._route.epoch})
        return route


class WaitingVersion:
    """Whether a version answers nobody by the route; one that there is no route of does not wait."""

    def __init__(self, version: int, path: Path) -> None:
        self._version, self._path, self._file = version, path, RouteFile(path)

    def __call__(self) -> bool:
        if not self._path.is_file():
            return False
        try:
            route = self._file.current()
        except NotFound:
            return False
        return self._version not in (route.champion, route.challenger)


def pick_arm(route: Route, key: str) -> Arm:
    """The side that answers for `key`: the same one for ever while the share stays.

    A share that grows only moves keys to the challenger, one that shrinks only moves them back. Different models
    split the same keys differently.
    """
    seed = f"{route.model}\x00{key}".encode()
    place = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big") / _RANGE
    return Arm.CHALLENGER if place < route.share else Arm.CHAMPION
