"""The versions in use, beside their engines: from questions to an engine's inputs, from its outputs to answers."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from perennial.continual.errors import PerennialError
from perennial.ops.serving.port import ServingSide, VersionSide

__all__ = ["VersionSides"]

logger = logging.getLogger(__name__)

_KEPT_BUNDLES = 8


class VersionSides:
    """The versions in use, read once each; versions never change. `folder` has a bundle by each number."""

    def __init__(self, side: ServingSide, folder: Path) -> None:
        self._side, self._folder = side, folder
        self._held: dict[int, VersionSide] = {}
        self._lock = threading.Lock()

    def get(self, version: int) -> VersionSide:
        """One version's; read on first use.

        Raises:
            NotFound: its folder is not there or not readable.
        """
        if (held := self._held.get(version)) is not None:
            return held
        with self._lock:
            if version not in self._held:
                held = self._side.open(self._folder / str(version))
                while len(self._held) >= _KEPT_BUNDLES:
                    del self._held[next(iter(self._held))]
                self._held[version] = held
            return self._held[version]

    def prepare(self, versions: Sequence[int]) -> None:
        """Read these beforehand, in the background, so that no request waits for it."""
        if missing := [version for version in versions if version not in self._held]:
            threading.Thread(target=self._prepare, args=(missing,), name="bundles", daemon=True).start()

    def _prepare(self, versions: Sequence[int]) -> None:
        for version in versions:
            try:
                self.get(version)
            except PerennialError as exc:
                logger.warning("bundle.unreadable", extra={"version": version, "reason": str(exc)})
