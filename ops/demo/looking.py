"""A helper beside a demonstration: it calls on the control API again and again, in a thread of its own."""

import threading

import httpx

__all__ = ["Looking"]


class Looking:
    """Looks at the control API each time after a pause, until it is stopped.

    Args:
        url: below which it looks.
        name: of its thread.
        every_s: the pause.
    """

    def __init__(self, url: str, *, name: str, every_s: float) -> None:
        self._url, self._every_s = url, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End after the look under way; calling it again does nothing."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def look(self, http: httpx.Client) -> None:
        """Do what there is to do; what could not be done is tried again at the next look."""
        raise NotImplementedError

    def _work(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as http:
            while not self._stop.wait(self._every_s):
                self.look(http)
