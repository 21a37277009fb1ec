"""`perennial serve`: the server, the loop and the control API in one process, until it is told to stop."""

import logging
import signal
import threading
import time

from perennial.continual.errors import DependencyUnreachable
from perennial.continual.jobs.warm import WarmJobs
from perennial.ops.app.api_thread import ApiThread, load_api
from perennial.ops.app.control import ServiceControl
from perennial.ops.app.cycle_traces import CycleTraces
from perennial.ops.app.following import ModelFollower
from perennial.ops.app.jobs import ModelJobs
from perennial.ops.app.notices import Notices
from perennial.ops.app.pauses import ShortPauses
from perennial.ops.app.roster import ModelRoster
from perennial.ops.app.running import RunningServe
from perennial.ops.app.servers import Servers
from perennial.ops.app.service_health import ServiceHealth
from perennial.ops.app.wiring import notifier
from perennial.ops.commands.first_version import register
from perennial.ops.making.challenger import JOB_MODULES
from perennial.ops.parts import Parts
from perennial.ops.scheduling.leader import Leader
from perennial.ops.scheduling.scheduler import LoopScheduler
from perennial.ops.serving.turns import ServersInTurn
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.steady_clock import SteadyClock

__all__ = ["Service"]

logger = logging.getLogger(__name__)
_STOP_S = 10.0  # for jobs and steps under way, all together
_LEAST_STOP_S = 0.1
_DAY_S = 86_400.0


class Service:
    """Everything that runs: it is put together here, started and stopped. `control` is what others may have of it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.feed = EventFeed(begins_after=time.time_ns() // 1_000_000)  # whoever follows meets no number twice
        leader = Leader(parts.ledger)
        ask = ServersInTurn(parts.controls).infer_engine
        kept_s = parts.settings.traffic.retention_days * _DAY_S
        clock = SteadyClock(parts.settings.state / "clock.json", stands_s=kept_s)
        self._warm = WarmJobs(JOB_MODULES) if parts.settings.schedule.warm_jobs else None
        self.roster = ModelRoster(parts, self.feed, ask=ask, lead=leader.fence, deletes_by=clock.now, warm=self._warm)
        self.servers = Servers(self.roster, self.feed)
        notices = Notices(parts, notifier(parts.settings, parts.ledger), lambda: self.servers.restarts)
        jobs = ModelJobs(every=parts.settings.schedule, reconcile=self.servers.reconcile, notify=notices.notify)
        self._scheduler = LoopScheduler(parts.ledger, (), leader=leader)
        self._health = ServiceHealth(parts, self._scheduler, self.servers.losses, clock)
        self._follower = ModelFollower(self.roster, self.servers, self._scheduler, jobs, notices, self._health)
        self.control = ServiceControl(self.roster, self.servers, self._scheduler, self._health)
        url = parts.settings.traces.url
        self._traces = CycleTraces(parts.ledger, self.feed, url) if url else None
        self._stop = threading.Event()
        self._api: ApiThread | None = None
        self.hung: tuple[str, ...] = ()  # what did not end when it was stopped; it ends with the process

    def run(self) -> None:
        """Start, wait for SIGTERM or SIGINT, and stop in order.

        Raises:
            Refused: another process serves from the same state folder.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ask_to_stop())
        with self._parts.workspace.claim():  # before anything is touched: the server there may be another's
            started = False
            try:
                self.start()
                started = True
                pauses = ShortPauses()
                pauses.begin()
                logger.info("service.ready", extra={"grpc": [control.url for control in self._parts.controls]})
                while not self._stop.wait(0.5):
                    pauses.tick()  # a signal that another thread received is only handled when this one wakes
            except DependencyUnreachable:
                if not self._stop.is_set():  # else it was the start that was given up
                    raise
            finally:
                self.stop(start_failed=not started and not self._stop.is_set())

    def start(self) -> None:
        """Bring up Triton, make it match the ledger, then start the loop and the API.

        Raises:
            DependencyUnreachable: Triton or a port cannot be had.
        """
        register(self._parts.ledger, self._parts.workspace)
        threading.Thread(target=load_api, name="load-api", daemon=True).start()  # while Triton starts
        self.servers.start()
        if self._warm is not None:
            self._warm.start()
        if self._traces is not None:
            self._traces.start()
        for loop in self.roster.loops.values():
            loop.start()
        self._scheduler.start()
        self._health.start()
        self._follower.start()
        here = RunningServe.here(self._parts.settings.api)
        settings = here.lets_itself_in(self._parts.settings.api)
        self._api = ApiThread(self._parts.ledger, self._parts.workspace, self.control, self.feed, settings)
        self._api.start()
        here.keep(self._parts.settings.state)

    def stop(self, *, start_failed: bool = False) -> None:
        """Stop the loop, the API and the embedded server; after a failed start not one that was found answering.

        Everybody is told first, so that all use the same `_STOP_S`. What hangs longer is named in `hung`; everything
        else is stopped all the same. The cycles end before the leadership does: their last writes carry its proof.
        """
        end = time.monotonic() + _STOP_S

        def left_s() -> float:
            return max(_LEAST_STOP_S, end - time.monotonic())

        self._tell_all()
        hung = [] if self._follower.stop(within_s=left_s()) else ["the look at the settings file"]
        for loop in self.roster.loops.values():  # a look under way may have made one more
            hung += [] if loop.stop(within_s=left_s()) else [f"the cycle of {loop.model}"]
        hung += [f"job {name}" for name in self._scheduler.stop(within_s=left_s())]
        self.hung += tuple(hung)
        if self._warm is not None:
            self._warm.close()
        self.control.close()
        if self._traces is not None:
            self._traces.stop(within_s=min(2.0, left_s()))
        if self._api is not None:
            self._api.stop(within_s=left_s())
        self.servers.stop(start_failed=start_failed, within_s=left_s())
        self._parts.close()

    def _tell_all(self) -> None:
        """Have nothing more begun, before anything is waited for."""
        self._follower.leave()
        self._scheduler.leave()
        for loop in self.roster.loops.values():
            loop.leave()
        self._health.stop()
        self.servers.cancel()
        if self._api is not None:
            RunningServe.forget(self._parts.settings.state)
            self._api.leave()

    def _ask_to_stop(self) -> None:
        self._stop.set()
        self.servers.cancel()
