"""`perennial serve`: the server, the loop and the control API in one process, until it is told to stop."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from perennial.continual.errors import DependencyUnreachable, PerennialError
from perennial.continual.records import Route
from perennial.ops.app.model_loop import ModelLoop
from perennial.ops.app.pauses import ShortPauses
from perennial.ops.app.service_health import ServiceHealth
from perennial.ops.app.wiring import engine_spec, notifier, router_spec, server_spec
from perennial.ops.commands.erasing.person import erase_person, plan_person
from perennial.ops.commands.first_version import register
from perennial.ops.commands.label_queue import LabelQueue
from perennial.ops.commands.promotion import promote_version, roll_back_version
from perennial.ops.ledger import VersionState
from perennial.ops.notify.herald import RESTARTED, Herald
from perennial.ops.parts import Parts
from perennial.ops.scheduling.jobs import JobRun, JobSpec
from perennial.ops.scheduling.leader import Leader
from perennial.ops.scheduling.scheduler import LoopScheduler
from perennial.ops.serving.probe import EngineWatch, probe_router
from perennial.ops.serving.server.server import TritonServer
from perennial.ops.serving.server.supervisor import Supervisor
from perennial.ops.store.happenings import Happenings
from perennial.ops.store.ledger_guard import LedgerBehind, told_route
from perennial.ops.store.route_changes import settle_route
from perennial.ops.views.metrics import prometheus_text

__all__ = ["Service"]

logger = logging.getLogger(__name__)
_FIRST_ANSWER_S = 30.0
_READY_S = 2.0
_STAGED_S = 120.0  # what is younger in the staging folder may be another process's work


def _run_of(action: Callable[[], str]) -> Callable[[JobRun], str | None]:
    def run(_: JobRun) -> str | None:
        return action() or None

    return run


def _load_api() -> None:
    """Half a second of imports that nothing but the API waits for."""


class Service:
    """Everything that runs, and the control that the API needs of it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.happenings = Happenings()
        leader = Leader(parts.ledger)
        self._loops = {
            name: ModelLoop(
                parts.ledger,
                parts.workspace,
                name,
                parts.repository,
                parts.reconciler,
                self.happenings,
                parts.controls[0],
                leader.fence,
            )
            for name in parts.settings.models
        }
        self._engines = EngineWatch()
        self._supervisor = self._make_supervisor()
        self._restarts_told = 0
        notices = notifier(parts.settings, parts.ledger)
        self._heralds = {name: Herald(parts.ledger, name, notices) for name in parts.settings.models}
        self._scheduler = LoopScheduler(parts.ledger, self._jobs(), leader=leader)
        self._health = ServiceHealth(parts, self._scheduler, {name: loop.traffic for name, loop in self._loops.items()})
        self._stop = threading.Event()
        self._api: Any = None
        self._api_thread: threading.Thread | None = None
        self._started = time.monotonic()
        self._looking = threading.Lock()
        self._last_ready: dict[str, Any] | None = None

    def run(self) -> None:
        """Start, wait for SIGTERM or SIGINT, and stop in order.

        Raises:
            Refused: another process serves from the same state folder.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._be_told_to_stop())
        with self._parts.workspace.claim():  # before anything is touched: the server there may be another's
            started = False
            try:
                self.start()
                started = True
                pauses = ShortPauses()
                pauses.begin()
                logger.info("service.ready", extra={"grpc": self._parts.controls[0].url})
                while not self._stop.wait(0.5):
                    pauses.tick()  # a signal that another thread received is only handled when this one wakes
            except DependencyUnreachable:
                if not self._stop.is_set():  # else it was the start that was given up
                    raise
            finally:
                self.stop(start_failed=not started and not self._stop.is_set())

    def _be_told_to_stop(self) -> None:
        self._stop.set()
        if self._supervisor is not None:
            self._supervisor.cancel()

    def start(self) -> None:
        """Bring up Triton, make it match the ledger, then start the loop and the API.

        Raises:
            DependencyUnreachable: Triton or a port cannot be had.
        """
        register(self._parts.ledger, self._parts.workspace)
        self._clean_staging()
        for model in self._loops:
            self._parts.repository.install_router(router_spec(self._parts, model))
            self._parts.repository.install_engine(engine_spec(self._parts, model))
            self._prepare_engine(model)
        loading = threading.Thread(target=_load_api, name="load-api", daemon=True)  # while Triton starts
        loading.start()
        if self._supervisor is not None:
            self._supervisor.start()
        else:
            self._wait_for_one_server()
            with suppress(PerennialError):  # told by `_reconcile_all`; the timer goes on trying
                self._reconcile_all()
        for loop in self._loops.values():
            loop.start()
        self._scheduler.start()
        self._health.start()
        self._start_api()

    def stop(self, *, start_failed: bool = False) -> None:
        """Stop the loop, the API and the embedded server; after a failed start not one that was found answering."""
        for loop in self._loops.values():
            loop.leave()
        self._health.stop()
        self._scheduler.stop()
        for loop in self._loops.values():
            loop.stop()
        if self._api is not None:
            self._api.should_exit = True
            if self._api_thread is not None:
                self._api_thread.join(timeout=10)
        if self._supervisor is not None:
            keeps = start_failed and self._parts.settings.triton.keep_after_control_dies
            self._supervisor.leave() if keeps else self._supervisor.stop()
        self._parts.close()

    # ---- what the API needs ----

    def promote(self, model: str, version: int, *, actor: str, reason: str) -> dict[str, Any]:
        """See `LoopControl`."""
        return promote_version(self._parts, model, version, actor=actor, reason=reason)

    def roll_back(self, model: str, *, to: int | None, actor: str, reason: str) -> dict[str, Any]:
        """See `LoopControl`."""
        return roll_back_version(self._parts, model, to=to, actor=actor, reason=reason)

    def retrain(self, model: str, *, actor: str) -> int | None:
        """See `LoopControl`."""
        return self._loops[model].runner.fire(f"asked by {actor}", actor=actor)

    def erase(self, key: str, *, model: str | None, dry_run: bool, actor: str) -> dict[str, Any]:
        """See `Eraser`."""
        if dry_run:
            plans = plan_person(self._parts, key, model)
            return {"dry_run": True, "models": {name: asdict(plan) for name, plan in plans.items()}}
        done = erase_person(self._parts, key, model=model, actor=actor)
        return {**asdict(done), "complete": done.complete}

    def label_queue(self, model: str, *, limit: int, fill: int) -> dict[str, Any]:
        """See `LoopControl`."""
        return LabelQueue(self._parts.ledger, self._parts.workspace, model).told(limit=limit, fill=fill)

    def metrics(self) -> str:
        """See `LoopControl`."""
        restarts = 0 if self._supervisor is None else self._supervisor.restarts
        return prometheus_text(self._parts.ledger, tuple(self._loops), restarts=restarts)

    def health(self) -> dict[str, Any]:
        """See `LoopControl`."""
        wrong = self._parts.reconciler.wrong
        servers = {
            control.url: "; ".join(what for (_, url), what in wrong.items() if url == control.url) or "ok"
            for control in self._parts.controls
        }
        supervised = self._supervisor is None or self._supervisor.healthy
        triton = supervised and (self._supervisor is not None or any(told == "ok" for told in servers.values()))
        restarts = 0 if self._supervisor is None else self._supervisor.restarts
        parts = self._health.told()
        leading = self._scheduler.leader.epoch is not None
        told = {name: part.facts() for name, part in parts.items()}
        return {
            "healthy": triton and all(part.healthy for part in parts.values()),
            "unhealthy": [*([] if triton else ["triton"]), *(name for name, part in parts.items() if not part.healthy)],
            "triton": {"healthy": triton, "restarts": restarts, "servers": servers},
            "scheduler": told.pop("scheduler") | {"leading": leading},
            "parts": told,
            "uptime_s": time.monotonic() - self._started,
        }

    def ready(self) -> dict[str, Any]:
        """See `LoopControl`. One look at a time: who asks meanwhile is told of the last one, however many ask."""
        before = self._last_ready
        if self._looking.acquire(blocking=before is None):
            try:
                if self._last_ready is before:
                    self._last_ready = self._look_whether_ready()
            finally:
                self._looking.release()
        return self._last_ready or {"ready": False}

    def _look_whether_ready(self) -> dict[str, Any]:
        serving = dict[str, str]()
        for model in self._loops:
            if self._parts.workspace.read_route(model) is not None:
                try:
                    control = self._parts.controls[0]
                    told = probe_router(control.url, model, control.parameters, EngineWatch(), timeout_s=_READY_S)
                    still_s = told.stalled_s
                    limit_s = self._parts.settings.triton.stall_limit_s
                    serving[model] = "ok" if still_s < limit_s else f"nothing has come out for {still_s:.0f} s"
                except PerennialError as exc:
                    serving[model] = str(exc)
        ledger = self._health.told()["ledger"]
        return {
            "ready": bool(serving) and all(told == "ok" for told in serving.values()),
            "serving": serving,
            "control": {"ready": ledger.healthy, "ledger": ledger.facts()},
        }

    # ---- parts ----

    def _make_supervisor(self) -> Supervisor | None:
        if self._parts.settings.triton.url:
            return None
        return Supervisor(
            TritonServer(server_spec(self._parts.settings)),
            models=self._loadable,
            probe=self._probe,
            on_started=self._settle,
        )

    def _loadable(self) -> list[str]:
        """The models that a starting server loads: engines first, because the routers call them."""
        served = [model for model in self._loops if self._route(model) is not None]
        held = [model for model in served if self._prepare_engine(model)]
        return [self._parts.workspace.engine_model(model) for model in held] + served

    def _prepare_engine(self, model: str) -> bool:
        """Have the engine's configuration name what is to be loaded; False where no version of it is on the disk.

        The reconcile pass tells of the versions that are missing.
        """
        workspace, route = self._parts.workspace, self._route(model)
        if route is None:
            return False
        on_disk = [version for version in route.resident if workspace.bundle(model, version).is_dir()]
        if on_disk:
            self._parts.repository.set_versions(workspace.engine_model(model), on_disk)
        with suppress(DependencyUnreachable, LedgerBehind):  # the reconcile pass tells
            settle_route(self._parts.ledger, workspace, model)
        return bool(on_disk)

    def _route(self, model: str) -> Route | None:
        """The ledger's route; while that is away or behind, what the routers were told last."""
        try:
            return told_route(self._parts.ledger, self._parts.workspace, model)
        except DependencyUnreachable:
            return self._parts.workspace.read_route(model)

    def _probe(self) -> None:
        for model in self._loops:
            if self._parts.workspace.read_route(model) is not None:  # a ledger that is away is no fault of the server
                control, limit_s = self._parts.controls[0], self._parts.settings.triton.stall_limit_s
                probe_router(
                    control.url, model, control.parameters, self._engines, timeout_s=3.0, stall_limit_s=limit_s
                )

    def _settle(self) -> None:
        """Bring the embedded server in order after it started or was adopted; it is ours alone."""
        self._reconcile_all()
        served = {model for model in self._loops if self._route(model) is not None}
        engines = {self._parts.workspace.engine_model(model) for model in served}
        self._parts.reconciler.unload_strangers(frozenset(served | engines))

    def _reconcile_all(self) -> None:
        """Reconcile every model, whatever becomes of the others; the first error is raised in the end."""
        errors = []
        for model in self._loops:
            try:
                self._reconcile(model)
            except PerennialError as exc:
                errors.append(exc)
        if errors:
            raise errors[0]

    def _wait_for_one_server(self) -> None:
        end = time.monotonic() + _FIRST_ANSWER_S
        while not any(control.live(1.0) for control in self._parts.controls):
            if time.monotonic() > end:
                urls = ", ".join(control.url for control in self._parts.controls)
                raise DependencyUnreachable(
                    f"no Triton answered within {_FIRST_ANSWER_S:g} s at {urls}; start one, or correct triton.url"
                )
            time.sleep(0.1)

    def _clean_staging(self) -> None:
        """Delete what killed processes left, but not what an unfinished version goes on with."""
        keep = {
            f"{self._parts.workspace.engine_model(row.name)}-{version.version}"
            for row in self._parts.ledger.models()
            for version in self._parts.ledger.versions(row.name)
            if version.state in {VersionState.TRAINING, VersionState.EXPORTED}
        }
        if names := self._parts.repository.clean_staging(keep, older_than_s=_STAGED_S):
            logger.info("staging.cleaned", extra={"names": list(names)})

    def _jobs(self) -> list[JobSpec]:
        every = self._parts.settings.schedule
        jobs = []
        for name, loop in self._loops.items():
            for what, action, interval_s, lane in (
                ("watch", loop.watch, every.watch_s, "default"),
                ("retrain", loop.check, every.retrain_check_s, "default"),
                ("compact", loop.compact, every.compact_s, "default"),
                ("retention", loop.retain, every.retention_s, "default"),
                ("reconcile", partial(self._reconcile, name), every.reconcile_s, "default"),
                ("report", loop.report, every.report_s, "reports"),  # seconds of work: it waits for nobody's turn
                ("notify", partial(self._notify, name), every.notify_s, "notices"),  # a dead receiver takes its time
            ):
                spec = JobSpec(name=f"{what}:{name.lower()}", action=_run_of(action), interval_s=interval_s, lane=lane)
                jobs.append(spec)
        return jobs

    def _notify(self, model: str) -> str:
        self._note_restarts()
        return self._heralds[model].tell()

    def _note_restarts(self) -> None:
        """Put restarts of the embedded server into the audit log, from where people are told."""
        seen = 0 if self._supervisor is None else self._supervisor.restarts
        if seen > self._restarts_told:
            for name in self._heralds:
                self._parts.ledger.audit("loop", RESTARTED, name, {"restarts": seen})
            self._restarts_told = seen

    def _reconcile(self, model: str) -> str:
        try:
            healed = self._parts.reconciler.reconcile(model)
        except PerennialError as exc:
            self.happenings.tell(model, "reconcile.failed", error=str(exc))
            raise
        for heal in healed:
            self.happenings.tell(model, "reconcile.healed", what=heal.what)
        return "; ".join(heal.what for heal in healed)

    def _start_api(self) -> None:
        from perennial.ops.api.app import create_api
        from perennial.ops.api.server import make_server

        settings = self._parts.settings.api
        self._api = make_server(create_api(self._parts.ledger, self, self.happenings, settings), settings)
        self._api_thread = threading.Thread(target=self._serve_api, name="api", daemon=True)
        self._api_thread.start()
        deadline = time.monotonic() + 20
        while not self._api.started:
            if time.monotonic() > deadline or not self._api_thread.is_alive():
                raise DependencyUnreachable(
                    f"the control API could not listen on {settings.host}:{settings.port}; set api.port in "
                    f"perennial.toml to a free one"
                )
            time.sleep(0.01)

    def _serve_api(self) -> None:
        try:
            self._api.run()
        except SystemExit:
            logger.error("api.not_started", extra={"port": self._parts.settings.api.port})
