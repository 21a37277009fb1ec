"""Makes disk, Triton and the router's file match the ledger; safe to run at any time, by anybody, twice."""

import logging
import threading
from dataclasses import dataclass

from continual.errors import DependencyUnreachable, PublishFailed
from continual.records import Route
from exporters.golden import Golden
from ops.ledger import Ledger
from ops.triton.control import TritonControl
from ops.triton.repository import ModelRepository
from ops.workspace import Workspace

__all__ = ["Healed", "Reconciler"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed:
    """One difference between the ledger and the world that a pass removed."""

    model: str
    what: str


class Reconciler:
    """Desired state is the ledger's route; everything else follows it."""

    def __init__(
        self, ledger: Ledger, workspace: Workspace, repository: ModelRepository, controls: tuple[TritonControl, ...]
    ) -> None:
        self._ledger, self._workspace, self._repository, self._controls = ledger, workspace, repository, controls
        self._lock = threading.Lock()

    def reconcile(self, model: str) -> list[Healed]:
        """Bring one model to its route, and return what had to be healed.

        Versions are loaded before the route may name them, and dropped only after it no longer does.

        Raises:
            PublishFailed: a resident version's folder is missing, or it did not come up right.
            DependencyUnreachable: a Triton does not answer.
        """
        route = self._ledger.route(model)
        if route is None:
            return []
        with self._lock:
            healed = self._repository_follows(route)
            for control in self._controls:
                healed += self._triton_follows(control, route)
            if self._workspace.write_route(route):
                healed.append(Healed(model=model, what=f"route file brought to epoch {route.epoch}"))
        for heal in healed:
            logger.info("reconcile.healed", extra={"model": model, "what": heal.what})
        return healed

    def _repository_follows(self, route: Route) -> list[Healed]:
        engine = self._workspace.engine_model(route.model)
        missing = [v for v in route.resident if not self._workspace.bundle(route.model, v).is_dir()]
        if missing:
            raise PublishFailed(
                f"versions {missing} of {route.model} are in the route but not in "
                f"{self._workspace.repository / engine}; restore the folders, or roll back to one that is there"
            )
        if self._repository.set_versions(engine, route.resident):
            return [Healed(model=route.model, what=f"config.pbtxt of {engine} names versions {list(route.resident)}")]
        return []

    def _triton_follows(self, control: TritonControl, route: Route) -> list[Healed]:
        engine, healed = self._workspace.engine_model(route.model), []
        ready = {v for v in self._repository.versions(engine) if control.ready(engine, v)}
        if ready != set(route.resident):
            control.load(engine)
            for version in sorted(set(route.resident) - ready):
                self._probe(control, route.model, version)
            change = f"{sorted(ready)} to {list(route.resident)}"
            healed.append(Healed(model=route.model, what=f"{control.url} took {engine} from {change}"))
        if not control.ready(route.model, 1):
            control.load(route.model)
            if not control.ready(route.model, 1):
                raise DependencyUnreachable(
                    f"router {route.model} at {control.url} is not ready after a load; see its log"
                )
            healed.append(Healed(model=route.model, what=f"{control.url} loaded router {route.model}"))
        return healed

    def _probe(self, control: TritonControl, model: str, version: int) -> None:
        engine = self._workspace.engine_model(model)
        if not control.ready(engine, version):
            raise PublishFailed(
                f"{engine} version {version} is not ready at {control.url} after a load; see Triton's log"
            )
        control.probe_engine(engine, version, Golden.read(self._workspace.bundle(model, version)))
