"""Keeps the embedded server answering: restarts it when it died, hangs, or a stub of it is gone."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from continual.errors import PerennialError
from ops.triton.server import TritonServer

__all__ = ["Supervisor"]

logger = logging.getLogger(__name__)


class Supervisor:
    """A thread that watches one server.

    Args:
        server: what to watch.
        models: the models to load at a start, asked anew each time.
        probe: raises when the server does not serve; called every `interval_s`.
        on_started: called after every start, the first included, when the server is live.
    """

    def __init__(
        self,
        server: TritonServer,
        *,
        models: Callable[[], Sequence[str]],
        probe: Callable[[], None],
        on_started: Callable[[], None],
        interval_s: float = 1.0,
        failures: int = 5,
    ) -> None:
        self._server, self._models = server, models
        self._probe, self._on_started = probe, on_started
        self._interval_s, self._failures = interval_s, failures
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self.restarts = 0
        self.failing_since: float | None = None

    def start(self) -> None:
        """Adopt or start the server, wait until it is live, and begin to watch.

        Raises:
            DependencyUnreachable: it did not come up.
        """
        started = threading.Event()
        errors: list[PerennialError] = []
        # the watching thread starts the server itself: the kernel binds a child to the thread that made it
        self._thread = threading.Thread(target=self._run, args=(started, errors), name="triton-supervisor", daemon=True)
        self._thread.start()
        started.wait()
        if errors:
            raise errors[0]

    def stop(self, *, keep_server: bool = False) -> None:
        """Stop watching, and the server with it unless it shall go on."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if keep_server:
            self._server.release()
        else:
            self._server.stop()

    @property
    def healthy(self) -> bool:
        """Whether the last probe passed."""
        return self._server.alive() and self.failing_since is None

    def _run(self, started: threading.Event, errors: list[PerennialError]) -> None:
        try:
            self._bring_up()
        except PerennialError as exc:
            self._server.stop()
            errors.append(exc)
            return
        finally:
            started.set()
        failed = 0
        while not self._stop.wait(self._interval_s):
            failed = self._look(failed)

    def _look(self, failed: int) -> int:
        """One look at the server; returns how many looks in a row have failed."""
        if self._server.alive():
            try:
                self._probe()
            except PerennialError as exc:
                self.failing_since = self.failing_since or time.monotonic()
                logger.warning("triton.probe_failed", extra={"error": str(exc), "in_a_row": failed + 1})
                if failed + 1 < self._failures:
                    return failed + 1
            else:
                self.failing_since = None
                return 0
        if not self._stop.is_set():
            self._restart()
        return 0

    def _restart(self) -> None:
        """Start anew, again and again with growing pauses, until it works or nobody wants it any more."""
        self.failing_since = self.failing_since or time.monotonic()
        pause_s = 0.1
        while not self._stop.is_set():
            self.restarts += 1
            logger.error("triton.restarting", extra={"restarts": self.restarts})
            try:
                self._server.kill()
                self._bring_up()
            except PerennialError as exc:
                logger.exception("triton.restart_failed", extra={"error": str(exc)})
                self._stop.wait(pause_s)
                pause_s = min(30.0, 2 * pause_s)
            else:
                self.failing_since = None
                return

    def _bring_up(self) -> None:
        self._server.spec = replace(self._server.spec, models=tuple(self._models()))
        self._server.start()
        self._on_started()
