"""The Tritons of a service: the embedded one, which it starts and watches, or those of `triton.url`."""

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from perennial.continual.errors import DependencyUnreachable, PerennialError
from perennial.continual.records import Route
from perennial.ops.app.probing import ModelProbes, RestartBudget
from perennial.ops.app.roster import ModelRoster
from perennial.ops.app.wiring import engine_spec, router_spec, server_spec, stream_spec
from perennial.ops.ledger import VersionState
from perennial.ops.parts import Parts
from perennial.ops.serving.port import ServingSide
from perennial.ops.serving.probe import ChampionSilent, Stalled
from perennial.ops.serving.router_losses import RouterLosses
from perennial.ops.serving.server.server import TritonServer
from perennial.ops.serving.server.supervisor import STOP_S, Supervisor
from perennial.ops.serving.tasks import serving_side
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.ledger_guard import LedgerBehind, route_to_serve
from perennial.ops.store.route_changes import restore_route_file

__all__ = ["Servers"]

logger = logging.getLogger(__name__)
_FIRST_ANSWER_S = 30.0
_STAGED_S = 120.0  # what is younger in the staging folder may be another process's work
_PROBE_S = 3.0
_LOOK_EVERY_S = 5.0  # at servers that somebody else runs


class Servers:
    """Has every server hold what the ledger says, and knows which model each of them fails for."""

    def __init__(self, roster: ModelRoster, feed: EventFeed) -> None:
        self._roster, self._feed = roster, feed
        limit_s = roster.parts.settings.triton.stall_limit_s
        self.losses = RouterLosses()
        self._probes = tuple(
            ModelProbes(control, side_of=self._side_of, stall_limit_s=limit_s, losses=self.losses)
            for control in roster.parts.controls
        )
        self.supervisor = self._make_supervisor()
        self._budget = RestartBudget(lambda: self.restarts)
        self._stop = threading.Event()
        self._brought_up = set[str]()  # models that a pass found in order since this process began

    @property
    def restarts(self) -> int:
        """How often the embedded server was restarted."""
        return 0 if self.supervisor is None else self.supervisor.restarts

    @property
    def _parts(self) -> Parts:
        return self._roster.parts

    def _side_of(self, model: str) -> ServingSide:
        return serving_side(self._parts.settings.task_of(model))

    def start(self) -> None:
        """Bring up the embedded server, or wait for one of the others; then have all of them match the ledger.

        Raises:
            DependencyUnreachable: Triton or a port cannot be had.
            ConfigurationError: no server can be started by these settings.
        """
        self._clean_staging()
        for model in self._roster.names:
            self.install(model)
        if self.supervisor is not None:
            self.supervisor.start()
            return
        self._wait_for_one_server()
        with suppress(PerennialError, OSError):  # told by `reconcile_all`; the timer goes on trying
            self.reconcile_all()
        for probes in self._probes:
            threading.Thread(
                target=self._look_on, args=(probes,), name=f"probe-{probes.control.url}", daemon=True
            ).start()

    def cancel(self) -> None:
        """Give up a start that is under way, and watch no longer. Safe in a signal handler."""
        self._stop.set()
        if self.supervisor is not None:
            self.supervisor.cancel()

    def stop(self, *, start_failed: bool = False, within_s: float = STOP_S) -> None:
        """Stop watching, and the embedded server with it; after a failed start not one that was found answering.

        What watches is waited for `within_s`; the server then has its own time to finish requests.
        """
        self.cancel()
        if self.supervisor is not None:
            keeps = start_failed and self._parts.settings.triton.keep_after_control_dies
            stop = self.supervisor.leave if keeps else self.supervisor.stop
            stop(within_s=within_s)

    def install(self, model: str) -> None:
        """Write what Triton is to know of a model; a folder that refuses is told, and keeps no other model waiting.

        Raises:
            ConfigurationError: the settings ask for what this server does not have.
        """
        router, engine = router_spec(self._parts, model), engine_spec(self._parts, model)
        try:
            self._parts.repository.install_router(router)
            if (streams := stream_spec(self._parts, model)) is not None:
                self._parts.repository.install_router(streams)
            self._parts.repository.install_engine(engine)
            self._prepare_engine(model)
        except (PerennialError, OSError) as exc:
            logger.error("model.not_installed", extra={"model": model, "error": str(exc)})

    def let_go(self, model: str) -> None:
        """Have no server hold a model any more; one that is away holds it until it is started anew."""
        self._brought_up.discard(model)
        self._parts.reconciler.let_go(model)

    def reconcile(self, model: str) -> str:
        """Bring a model to its route on every server, and return what had to be healed."""
        try:
            healed = self._parts.reconciler.reconcile(model)
        except (PerennialError, OSError) as exc:
            self._feed.record(model, "reconcile.failed", error=str(exc))
            raise
        self._brought_up.add(model)
        for heal in healed:
            self._feed.record(model, "reconcile.healed", what=heal.what)
        return "; ".join(heal.what for heal in healed)

    def reconcile_all(self) -> None:
        """Reconcile every model, whatever becomes of the others; the first error is raised in the end."""
        errors = list[PerennialError | OSError]()
        for model in self._roster.names:
            try:
                self.reconcile(model)
            except (PerennialError, OSError) as exc:
                errors.append(exc)
        if errors:
            raise errors[0]

    def failing(self) -> Mapping[str, Mapping[str, str]]:
        """Return what the last probes and passes found wrong, by server and model; the disk is the server ""."""
        by_server: dict[str, dict[str, str]] = {}
        for (model, url), what in self._parts.reconciler.wrong.items():
            by_server.setdefault(url, {})[model] = what
        for probes in self._probes:
            for model, error in probes.failing.items():
                by_server.setdefault(probes.control.url, {}).setdefault(model, str(error))
        for model in self._budget.held if self.supervisor is not None else ():
            here = by_server.setdefault(self._probes[0].control.url, {})
            here.setdefault(model, "a process of it is gone; a restart waits, because others are answered meanwhile")
        return by_server

    def served(self) -> tuple[str, ...]:
        """Return the models that routers answer for, by what they were told last: the ledger may be away."""
        return tuple(model for model in self._roster.names if self._parts.workspace.read_route(model) is not None)

    def _look_on(self, probes: ModelProbes) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            try:
                probes.look(self.served(), timeout_s=_PROBE_S)
            except Exception:  # a folder that cannot be read, say: whatever it is, the watch goes on
                logger.exception("probe.failed", extra={"url": probes.control.url})

    def _make_supervisor(self) -> Supervisor | None:
        if self._parts.settings.triton.url:
            return None
        return Supervisor(
            TritonServer(server_spec(self._parts.settings)),
            models=self._loadable,
            probe=self._probe,
            on_started=self._settle,
            worth_restart=self._worth_restart,
        )

    def _loadable(self) -> list[str]:
        """The models that a starting server loads: engines first, because the routers call them."""
        served = [model for model in self._roster.names if self._route(model) is not None]
        held = [model for model in served if self._is_prepared(model)]
        routers = [router for model in served for router in self._parts.workspace.routers(model)]
        return [self._parts.workspace.engine_model(model) for model in held] + routers

    def _is_prepared(self, model: str) -> bool:
        try:
            return self._prepare_engine(model)
        except (PerennialError, OSError) as exc:
            logger.error("model.not_prepared", extra={"model": model, "error": str(exc)})
            return False

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
            restore_route_file(self._parts.ledger, workspace, model)
        return bool(on_disk)

    def _route(self, model: str) -> Route | None:
        """The ledger's route; while that is away or behind, what the routers were told last."""
        try:
            return route_to_serve(self._parts.ledger, self._parts.workspace, model)
        except DependencyUnreachable:
            return self._parts.workspace.read_route(model)

    def _probe(self) -> None:
        """See whether the embedded server serves; a ledger that is away is no fault of it."""
        served = self.served()
        failing = self._probes[0].look(served, timeout_s=_PROBE_S)
        server_faults = {model: error for model, error in failing.items() if self._is_server_fault(model, error)}
        if (error := self._budget.error(server_faults, answered=len(served) - len(failing))) is not None:
            raise error

    def _worth_restart(self, triton_model: str) -> bool:
        """Whether a lost process of a router or an engine may cost the other models a restart now."""
        served, failing = self.served(), self._probes[0].failing
        workspace = self._parts.workspace
        own = {m: {*workspace.routers(m), workspace.engine_model(m)} for m in served}
        owner = next((m for m in served if triton_model in own[m]), triton_model)
        others = [model for model in served if model != owner and model not in failing]
        return self._budget.allows(owner, others_answered=len(others))

    def _is_server_fault(self, model: str, error: PerennialError) -> bool:
        """Whether a model's failure can be the server's fault.

        One that no pass has brought up yet was routed by another process a moment ago: the server cannot hold it.
        """
        return model in self._brought_up or isinstance(error, DependencyUnreachable | Stalled | ChampionSilent)

    def _settle(self) -> None:
        """Bring the embedded server in order after it started or was adopted; it is ours alone."""
        self.reconcile_all()
        served = {model for model in self._roster.names if self._route(model) is not None}
        engines = {self._parts.workspace.engine_model(model) for model in served}
        routers = {router for model in served for router in self._parts.workspace.routers(model)}
        self._parts.reconciler.unload_strangers(frozenset(routers | engines))

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
