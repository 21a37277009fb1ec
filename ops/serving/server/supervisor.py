"""Keeps the embedded server answering: restarts it when it died, hangs, or a stub of it is gone."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from perennial.continual.errors import DependencyUnreachable, PerennialError
from perennial.ops.serving.probe import ChampionSilent, Stalled
from perennial.ops.serving.processes import ended_members
from perennial.ops.serving.server.server import StartLost, TritonServer
from perennial.ops.serving.server.shared_memory import close_to_others
from perennial.ops.serving.server.stubs import StubWatch

__all__ = ["STOP_S", "Supervisor"]

logger = logging.getLogger(__name__)
_GLANCE_S = 0.05  # how long a death goes unnoticed
_SHORT_LIFE_S = 10.0  # a server that dies younger is given a pause before the next start
_LONGEST_PAUSE_S = 30.0  # between starts that fail
_PROVEN_PAUSE_S = 1.0  # the longest for a server that came up: it is more use between two deaths than while it waits
_STUCK_LOOKS = 10  # a second apart, after which a load is given up that waits for a dead process
_SILENT_S = 60.0  # so long may a champion be silent, while another version answers, before a restart is tried
STOP_S = 10.0  # for what the watching thread does when it is stopped
_PROBE_ENDS_S = 1.0  # for a probe that is under way then
_DEAD_STUB = "Stub process"  # Triton 2.51 of a model whose process is gone; no loading brings that back


class _Probing:
    """One probe in a thread of its own: one that meets a dead or hanging process keeps nobody from seeing a death.

    `probe` returns what is lost for good, empty when nothing is, and raises when the server does not serve.
    """

    def __init__(self, probe: Callable[[], str]) -> None:
        self._probe, self._done = probe, threading.Event()
        self.begun = False
        self.lost = ""
        self.error: Exception | None = None

    @property
    def ended(self) -> bool:
        return self._done.is_set()

    def begin(self) -> None:
        threading.Thread(target=self._run, name="triton-probe", daemon=True).start()
        self.begun = True

    def wait(self, within_s: float) -> None:
        """Return when it is over, where it was begun, or after so long."""
        if self.begun:
            self._done.wait(within_s)

    def _run(self) -> None:
        try:
            self.lost = self._probe()
        except Exception as exc:  # one that nobody foresaw says nothing good either
            self.error = exc
        finally:
            self._done.set()


@dataclass(slots=True)
class _Silence:
    """A time in which the champion does not answer and another version does."""

    under_way: bool = False
    since: float = 0.0
    restarted: bool = False  # for its sake
    answered_looks: int = 0  # looks in a row that the champion answered

    def hear(self, enough: int) -> None:
        """The champion answered; the silence is over after `enough` such looks in a row."""
        self.answered_looks += 1
        if self.under_way and self.answered_looks >= enough:
            self.under_way = self.restarted = False
            logger.warning("triton.champion_answers")


class Supervisor:
    """A thread that watches one server.

    A death is seen within 50 ms, of the server as of a stub. A server that does not answer is restarted after
    `failures` looks. What `on_started` cannot bring in order never costs the server its life: the versions
    that it holds go on answering, `unsettled` says what is wrong, and it is tried again with growing pauses.
    One whose champion is silent for a minute while the version before it answers is restarted once, in case that
    helps, and then left alone until the champion has answered `failures` looks in a row.

    Args:
        server: what to watch.
        models: the models to load at a start, asked anew each time.
        probe: raises when the server does not serve, `ChampionSilent` when it does by another version; called every
            `interval_s`.
        on_started: called after every start, the first included, when the server is live.
        worth_restart: whether the server may be restarted now because this model of Triton's lost a process; where it
            says no, it is asked again at every look. Called by two threads.
        interval_s: time between two looks.
        failures: looks that must fail before a server that lives is restarted.
    """

    def __init__(
        self,
        server: TritonServer,
        *,
        models: Callable[[], Sequence[str]],
        probe: Callable[[], None],
        on_started: Callable[[], None],
        worth_restart: Callable[[str], bool] = lambda _: True,
        interval_s: float = 1.0,
        failures: int = 5,
    ) -> None:
        self._server, self._models = server, models
        self._probe, self._on_started, self._worth_restart = probe, on_started, worth_restart
        self._interval_s, self._failures = interval_s, failures
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._stubs = StubWatch(server.spec.url, server.kept_secret)
        self._up_since = 0.0
        self._pause_s = 0.0
        self._failed, self._next_look, self._probing = 0.0, 0.0, _Probing(self._probe_all)
        self._silent = _Silence()
        self._settle_at, self._settle_pause_s = 0.0, 1.0
        self._held_back = frozenset[str]()  # models whose lost processes were told of since the last restart
        self.restarts = 0
        self.failing_since: float | None = None
        self.unsettled: str | None = None

    def start(self) -> None:
        """Adopt or start the server, wait until it is live, and begin to watch.

        A server that dies while it starts is started again and again, with growing pauses: this returns after the
        first try, and `healthy` tells when it is there.

        Raises:
            DependencyUnreachable: a port is taken or something is missing, which no further try would change.
        """
        started = threading.Event()
        errors: list[Exception] = []
        # the watching thread starts the server itself: the kernel binds a child to the thread that made it
        self._thread = threading.Thread(target=self._run, args=(started, errors), name="triton-supervisor", daemon=True)
        self._thread.start()
        started.wait()
        if errors:
            raise errors[0]

    def cancel(self) -> None:
        """Give up a start that is under way, and watch no longer; `stop` is still to be called. Safe in a handler."""
        self._stop.set()

    def stop(self, *, keep_server: bool = False, within_s: float = STOP_S) -> None:
        """Stop watching, and the server with it unless it shall go on.

        What the watching thread does now is waited for `within_s`, and a probe for an instant: both hang where the
        server does, and end with it.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join(within_s)
            if self._thread.is_alive():
                logger.error("triton.watch_hangs_at_stop", extra={"waited_s": within_s})
        self._probing.wait(_PROBE_ENDS_S)
        self._stubs.close()
        if keep_server:
            self._server.release()
        else:
            self._server.stop()

    def leave(self, *, within_s: float = STOP_S) -> None:
        """Stop watching after a start that failed: a server that was found goes on, one of this process ends."""
        self.stop(keep_server=not self._server.launched, within_s=within_s)

    @property
    def healthy(self) -> bool:
        """Whether the last probe passed and the server holds what it should."""
        return self._server.alive() and self.failing_since is None and self.unsettled is None

    def _run(self, started: threading.Event, errors: list[Exception]) -> None:
        try:
            self._bring_up()
        except Exception as exc:  # it is raised where the start was asked for, unless another try may help
            if not isinstance(exc, StartLost) or self._stop.is_set():
                errors.append(exc)
                if self._server.launched:
                    with suppress(OSError):
                        self._server.stop()
                started.set()
                return
            self.failing_since = time.monotonic()
            started.set()
            self._restart(str(exc))
        started.set()
        while not self._stop.wait(_GLANCE_S):
            try:
                self._glance()
            except Exception as exc:  # no more files, say: whatever it is, the watch goes on
                self.failing_since = self.failing_since or time.monotonic()
                logger.exception("triton.watch_failed", extra={"error": str(exc)})
                self._stop.wait(self._interval_s)

    def _glance(self) -> None:
        """See whether something died; probe, and judge a probe that ended, where it is time."""
        if reason := self._death():
            self._restart(reason)
            self._failed = 0.0
            self._look_again_in(0.0)
        elif self._probing.ended:
            self._failed = self._judge(self._probing, self._failed)
            self._look_again_in(self._interval_s)
        elif not self._probing.begun and time.monotonic() >= self._next_look:
            self._look()
            self._probing.begin()

    def _look_again_in(self, pause_s: float) -> None:
        self._next_look, self._probing = time.monotonic() + pause_s, _Probing(self._probe_all)

    def _death(self) -> str:
        """What died, in words; empty while everything lives."""
        pid = self._server.pid
        if pid is None:
            return "the server's process is gone"
        lost = self._first_worth(self._stubs.lost(pid))
        return f"a process of {lost} is gone" if lost else ""

    def _first_worth(self, lost: Sequence[str]) -> str:
        """A model whose lost process is worth a restart now; empty where there is none."""
        worth = next(filter(self._worth_restart, lost), "")
        if not worth and not set(lost) <= self._held_back:
            self._held_back = self._held_back | set(lost)
            logger.warning("triton.restart_held_back", extra={"models": list(lost)})
        return worth

    def _look(self) -> None:
        """See which processes live, and try again what could not be brought in order."""
        close_to_others()
        if (pid := self._server.pid) is not None:
            self._stubs.learn(pid)
        if self.unsettled is not None and time.monotonic() >= self._settle_at:
            self._settle()

    def _probe_all(self) -> str:
        """Raise what the probe raises, unless a process that is gone explains it; which one, or nothing."""
        try:
            self._probe()
        except DependencyUnreachable:
            raise
        except PerennialError:
            if lost := self._lost_unseen():
                return lost
            raise
        return self._lost_unseen()

    def _lost_unseen(self) -> str:
        pid = self._server.pid
        if pid is None or self._stop.is_set():
            return ""
        try:
            lost = self._first_worth(self._stubs.missing(pid))
        except PerennialError as exc:  # it answered just now: no reason to call it away
            logger.debug("triton.stubs_not_counted", extra={"error": str(exc)})
            return ""
        return lost and f"{lost} has fewer processes than Triton counts on"

    def _judge(self, probing: _Probing, failed: float) -> float:
        """What a probe's end means; returns the failed looks so far, of which two good ones take one back.

        So a server of which one router process hangs is noticed too, although every other probe is answered.
        """
        if probing.lost:
            self._restart(probing.lost)
            return 0.0
        if (error := probing.error) is None:
            self.failing_since = None
            self._silent.hear(self._failures)
            return max(0.0, failed - 0.5)
        self.failing_since = self.failing_since or time.monotonic()
        if isinstance(error, ChampionSilent):
            self._judge_silence(error)
            return 0.0  # somebody answers
        logger.warning("triton.probe_failed", extra={"error": str(error), "failed": failed + 1})
        if isinstance(error, Stalled) and self._server.alive():  # it was looked at for long enough
            self._restart(str(error))
            return 0.0
        if not isinstance(error, PerennialError):
            return failed  # our own fault: it says nothing of the server
        refuses = not isinstance(error, DependencyUnreachable) and _DEAD_STUB not in str(error)
        if self.unsettled is not None and refuses:
            return 0.0  # it answers, but lacks a version: that is to be loaded, and no restart would help
        if failed + 1 < self._failures or not self._server.alive():
            return failed + 1
        self._restart(f"{failed + 1:g} probes failed, the last with: {error}")
        return 0.0

    def _judge_silence(self, error: ChampionSilent) -> None:
        """Everybody is answered, if not by the champion: one restart may help it, a second one would only cost.

        A probation's rollback comes before it.
        """
        silent, now = self._silent, time.monotonic()
        if not silent.under_way:
            logger.warning("triton.champion_silent", extra={"error": str(error)})
            silent.since = now
        silent.under_way, silent.answered_looks = True, 0
        if not silent.restarted and self.unsettled is None and now - silent.since >= _SILENT_S:
            silent.restarted = True
            self._restart(f"the champion has been silent for {now - silent.since:.0f} s: {error}")

    def _restart(self, reason: str) -> None:
        """Start anew, again and again with growing pauses, until it works or nobody wants it any more."""
        self.failing_since = self.failing_since or time.monotonic()
        self._held_back = frozenset()
        short = time.monotonic() - self._up_since < _SHORT_LIFE_S
        self._pause_s = min(_PROVEN_PAUSE_S, self._longer_pause()) if short else 0.0
        while not self._stop.is_set():
            self.restarts += 1
            logger.error("triton.restarting", extra={"restarts": self.restarts, "reason": reason})
            try:
                self._server.kill()
                if self._stop.wait(self._pause_s):
                    return
                self._bring_up()
            except Exception as exc:  # whatever it is, who gives up now leaves everybody without answers
                logger.exception("triton.restart_failed", extra={"error": str(exc)})
                self._pause_s, reason = self._longer_pause(), str(exc)
            else:
                if self.unsettled is None:
                    self.failing_since = None
                return

    def _longer_pause(self) -> float:
        return min(_LONGEST_PAUSE_S, max(0.1, 2 * self._pause_s))

    def _bring_up(self) -> None:
        self._server.spec = replace(self._server.spec, models=tuple(self._models()))
        self._server.start(self._stop)
        self._up_since = time.monotonic()
        close_to_others()
        self._stubs.forget()
        if (pid := self._server.pid) is not None:
            self._stubs.learn(pid)
        self._settle_pause_s = 1.0
        self._settle()

    @contextmanager
    def _loads_watched(self) -> Iterator[None]:
        """Kill a server that waits for a process that died under a load: it would wait for ever, and so would we."""
        over, pid = threading.Event(), self._server.pid
        watch = threading.Thread(target=self._end_stuck_load, args=(over, pid), name="triton-loads", daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()

    def _end_stuck_load(self, over: threading.Event, pid: int | None) -> None:
        looks, before = 0, () if pid is None else ended_members(pid)
        while pid is not None and looks < _STUCK_LOOKS and not over.wait(1.0):
            looks = looks + 1 if self._stubs.load_is_stuck(pid, before) else 0
        if pid is not None and looks == _STUCK_LOOKS and self._server.pid == pid:
            logger.error("triton.load_stuck", extra={"pid": pid})
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _settle(self) -> None:
        try:
            with self._loads_watched():
                self._on_started()
        except Exception as exc:  # a full disk, say
            self.unsettled = str(exc)
            self._settle_at = time.monotonic() + self._settle_pause_s
            self._settle_pause_s = min(_LONGEST_PAUSE_S, 2 * self._settle_pause_s)
            logger.error("triton.unsettled", extra={"error": str(exc)})
        else:
            self.unsettled = None
