"""What the memories have in common that lie in a file: what cannot be read is counted, and told once."""

import logging
import threading

from perennial.ops.serving.port import Mindless

__all__ = ["FileMemory"]

logger = logging.getLogger(__name__)


class FileMemory(Mindless):
    """A memory that lies in a file, which may fail: it counts who had to do without, and logs each failure's begin.

    Args:
        event: what the log calls a failure.
    """

    def __init__(self, event: str) -> None:
        self._event, self._failing, self._counted = event, False, 0
        self._counting = threading.Lock()

    @property
    def unread(self) -> int:
        """Inputs so far that had to do without."""
        return self._counted

    def failed(self, rows: int, exc: Exception) -> None:
        """So many inputs go on without."""
        with self._counting:
            self._counted += rows
            first, self._failing = not self._failing, True
        if first:
            logger.warning(self._event, extra={"reason": str(exc)})

    def worked(self) -> None:
        """The file is well again; the next failure is told."""
        self._failing = False
