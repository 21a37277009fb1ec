"""Encoders that were tuned on rows erased since: remembered until no version on disk uses them any more."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from continual.records import Route
from ops.ledger import Ledger, VersionState
from ops.loop.reconciler import Reconciler
from ops.operations import change_route
from ops.triton.repository import ModelRepository
from ops.workspace import Workspace

__all__ = ["VersionRemoval", "taint", "tainted_encoders"]

_STATE = "tainted_encoders"


def tainted_encoders(ledger: Ledger, model: str) -> frozenset[str]:
    """Fingerprints of the encoders that no training may go on from."""
    return frozenset(ledger.get_state(model, _STATE) or ())


def taint(ledger: Ledger, model: str, encoders: Collection[str]) -> None:
    """Remember encoders that were tuned on erased rows. A retry changes nothing."""
    if not encoders:
        return
    with ledger.transaction():
        ledger.put_state(model, _STATE, sorted(tainted_encoders(ledger, model) | set(encoders)))


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRemoval:
    """Takes versions of one model out of the route, out of Triton and off the disk. `live` says if Triton answers."""

    model: str
    ledger: Ledger
    workspace: Workspace
    repository: ModelRepository
    reconciler: Reconciler
    live: Callable[[], bool]

    def drop(self, versions: tuple[int, ...], *, actor: str, reason: str) -> None:
        """Remove versions that don't answer; without a running Triton its next start loads what is left.

        Raises:
            DependencyUnreachable, PublishFailed: a server does not follow; call again.
        """
        if not versions:
            return

        def change(route: Route) -> Route:
            previous = None if route.previous in versions else route.previous
            return replace(route, previous=previous, resident=tuple(v for v in route.resident if v not in versions))

        change_route(self.ledger, self.workspace, self.model, change, actor=actor, reason=reason)
        engine = self.workspace.engine_model(self.model)
        if self.live():
            self.reconciler.reconcile(self.model)
        elif (route := self.ledger.route(self.model)) is not None and self.repository.engine_versions(engine):
            self.repository.set_versions(engine, route.resident)
        for version in versions:
            self.repository.remove_version(engine, version)
            self.ledger.set_version_state(self.model, version, VersionState.REMOVED)

    def drop_tainted(self, *, actor: str) -> tuple[int, ...]:
        """Remove the versions on tainted encoders that don't answer, and return them; not while a cycle is under way.

        When the champion's encoder is clean too, the tainted ones are forgotten.
        """
        encoders, route = tainted_encoders(self.ledger, self.model), self.ledger.route(self.model)
        if not encoders or route is None or self.ledger.active_cycle(self.model) is not None:
            return ()
        on_disk = set(self.repository.versions(self.workspace.engine_model(self.model)))
        rows = self.ledger.versions(self.model)
        held = [row.version for row in rows if row.version in on_disk and row.encoder_fingerprint in encoders]
        doomed = tuple(version for version in held if version != route.champion)
        self.drop(doomed, actor=actor, reason=f"the encoder of versions {list(doomed)} was tuned on erased rows")
        if route.champion not in held:
            self.ledger.put_state(self.model, _STATE, [])
        return doomed
