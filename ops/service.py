"""`perennial serve`: the server, the loop and the control API in one process, until it is told to stop."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from continual.errors import DependencyUnreachable, NotFound, PerennialError
from ops.api import create_api
from ops.bootstrap import register
from ops.loop.events import Happenings
from ops.loop.model_loop import ModelLoop
from ops.metrics import prometheus_text
from ops.operations import change_route, pinned, promoted, rolled_back
from ops.scheduling.jobs import JobRun, JobSpec
from ops.scheduling.scheduler import LoopScheduler
from ops.triton.probe import probe_router
from ops.triton.server import TritonServer
from ops.triton.supervisor import Supervisor
from ops.wiring import Parts, engine_spec, router_spec, server_spec

__all__ = ["Service", "promote_version", "roll_back_version"]

logger = logging.getLogger(__name__)


def promote_version(parts: Parts, model: str, version: int, *, actor: str, reason: str) -> dict[str, Any]:
    """Make a version champion; one that is not loaded is loaded and probed first.

    Raises:
        NotFound: the version has no bundle.
    """
    route = parts.ledger.route(model)
    if route is None or not parts.workspace.bundle(model, version).is_dir():
        on_disk = parts.repository.versions(parts.workspace.engine_model(model))
        raise NotFound(f"{model} has no bundle of version {version}; on disk are {list(on_disk)}")
    if version not in route.resident:
        change_route(parts.ledger, parts.workspace, model, pinned(version), actor=actor, reason=f"load for: {reason}")
        parts.reconciler.reconcile(model)
    keep = parts.workspace.model(model).cycle.resident_versions
    change = change_route(
        parts.ledger, parts.workspace, model, promoted(version, resident=keep), actor=actor, reason=reason
    )
    return asdict(change.after)


def roll_back_version(parts: Parts, model: str, *, to: int | None, actor: str, reason: str) -> dict[str, Any]:
    """Put the previous champion (or `to`) back. Both being resident, no Triton call is made."""
    route = parts.ledger.route(model)
    if route is not None and to is not None and to not in route.resident:
        return promote_version(parts, model, to, actor=actor, reason=reason)
    change = change_route(parts.ledger, parts.workspace, model, rolled_back(to=to), actor=actor, reason=reason)
    if parts.ledger.active_cycle(model) is not None:
        parts.ledger.request_command(model, "rolled_back", {}, actor)
    return asdict(change.after)


def _run_of(action: Callable[[], str]) -> Callable[[JobRun], str | None]:
    def run(_: JobRun) -> str | None:
        return action() or None

    return run


class Service:
    """Everything that runs, and the control that the API needs of it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.happenings = Happenings()
        self._loops = {
            name: ModelLoop(parts.ledger, parts.workspace, name, parts.repository, parts.reconciler, self.happenings)
            for name in parts.settings.models
        }
        self._supervisor = self._make_supervisor()
        self._scheduler = LoopScheduler(parts.ledger, self._jobs())
        self._stop = threading.Event()
        self._api: Any = None
        self._api_thread: threading.Thread | None = None
        self._started = time.monotonic()

    def run(self) -> None:
        """Start, wait for SIGTERM or SIGINT, and stop in order.

        Raises:
            Refused: another process serves from the same state folder.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        with self._parts.workspace.claim():  # before anything is touched: the server there may be another's
            try:
                self.start()
                logger.info("service.ready", extra={"grpc": self._parts.controls[0].url})
                while not self._stop.wait(0.5):
                    pass  # a signal that another thread received is only handled when this one wakes
            finally:
                self.stop()

    def start(self) -> None:
        """Bring up Triton, make it match the ledger, then start the loop and the API.

        Raises:
            DependencyUnreachable: Triton or a port cannot be had.
        """
        register(self._parts.ledger, self._parts.workspace)
        for model in self._loops:
            self._parts.repository.install_router(router_spec(self._parts, model))
            self._parts.repository.install_engine(engine_spec(self._parts, model))
            self._prepare_engine(model)
        if self._supervisor is not None:
            self._supervisor.start()
        else:
            for control in self._parts.controls:
                control.wait_live(30)
            self._reconcile_all()
        for loop in self._loops.values():
            loop.start()
        self._scheduler.start()
        self._start_api()

    def stop(self) -> None:
        """Stop the loop, the API and the embedded server."""
        self._scheduler.stop()
        for loop in self._loops.values():
            loop.stop()
        if self._api is not None:
            self._api.should_exit = True
            if self._api_thread is not None:
                self._api_thread.join(timeout=10)
        if self._supervisor is not None:
            self._supervisor.stop()
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

    def metrics(self) -> str:
        """See `LoopControl`."""
        restarts = 0 if self._supervisor is None else self._supervisor.restarts
        return prometheus_text(self._parts.ledger, tuple(self._loops), restarts=restarts)

    def health(self) -> dict[str, Any]:
        """See `LoopControl`."""
        triton = self._supervisor is None or self._supervisor.healthy
        restarts = 0 if self._supervisor is None else self._supervisor.restarts
        return {
            "healthy": triton,
            "triton": {"healthy": triton, "restarts": restarts},
            "scheduler": {"leading": self._scheduler.leader.epoch is not None},
            "uptime_s": time.monotonic() - self._started,
        }

    # ---- parts ----

    def _make_supervisor(self) -> Supervisor | None:
        if self._parts.settings.triton.url:
            return None
        return Supervisor(
            TritonServer(server_spec(self._parts.settings)),
            models=self._loadable,
            probe=self._probe,
            on_started=self._reconcile_all,
        )

    def _loadable(self) -> list[str]:
        """The models that a starting server loads: engines first, because the routers call them."""
        served = [model for model in self._loops if self._parts.ledger.route(model) is not None]
        for model in served:
            self._prepare_engine(model)
        return [self._parts.workspace.engine_model(model) for model in served] + served

    def _prepare_engine(self, model: str) -> None:
        route = self._parts.ledger.route(model)
        if route is not None:
            self._parts.repository.set_versions(self._parts.workspace.engine_model(model), route.resident)
            self._parts.workspace.write_route(route)

    def _probe(self) -> None:
        for model in self._loops:
            if self._parts.ledger.route(model) is not None:
                probe_router(self._parts.controls[0].url, model)

    def _reconcile_all(self) -> None:
        for model in self._loops:
            self._parts.reconciler.reconcile(model)

    def _jobs(self) -> list[JobSpec]:
        every = self._parts.settings.schedule
        jobs = []
        for name, loop in self._loops.items():
            for what, action, interval_s in (
                ("watch", loop.watch, every.watch_s),
                ("retrain", loop.check, every.retrain_check_s),
                ("compact", loop.compact, every.compact_s),
                ("retention", loop.retain, every.retention_s),
                ("reconcile", partial(self._reconcile, name), every.reconcile_s),
            ):
                jobs.append(JobSpec(name=f"{what}:{name.lower()}", action=_run_of(action), interval_s=interval_s))
        return jobs

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
        import uvicorn

        settings = self._parts.settings.api
        application = create_api(self._parts.ledger, self, self.happenings, settings)
        config = uvicorn.Config(
            application, host=settings.host, port=settings.port, log_config=None, access_log=False, lifespan="off"
        )
        self._api = uvicorn.Server(config)
        self._api.install_signal_handlers = lambda: None
        self._api_thread = threading.Thread(target=self._serve_api, name="api", daemon=True)
        self._api_thread.start()
        deadline = time.monotonic() + 20
        while not self._api.started:
            if time.monotonic() > deadline or not self._api_thread.is_alive():
                raise DependencyUnreachable(
                    f"the control API could not listen on {settings.host}:{settings.port}; set api.port in "
                    f"perennial.toml to a free one"
                )
            time.sleep(0.05)

    def _serve_api(self) -> None:
        try:
            self._api.run()
        except SystemExit:
            logger.error("api.not_started", extra={"port": self._parts.settings.api.port})
