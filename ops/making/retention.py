"""What stays on disk of versions and of the making of them: bundles, work folders, and what nobody may use any more."""

import logging
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from perennial.continual.cycle import decode
from perennial.continual.records import Route
from perennial.ops.ledger import Ledger, VersionState
from perennial.ops.serving.reconciler import Reconciler
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.store.ledger_guard import check_not_behind
from perennial.ops.store.route_changes import change_route
from perennial.ops.store.tainted import forget_tainted, tainted_encoders
from perennial.ops.store.workspace import Workspace

__all__ = ["VersionRemoval", "prune_runs", "remove_superfluous", "superfluous"]

logger = logging.getLogger(__name__)
_TURNED_AWAY = (VersionState.REFUSED, VersionState.FAILED)
_IN_USE = timedelta(days=1)  # since the last file was written; a command in another process may work there
_UNFINISHED = (VersionState.TRAINING, VersionState.EXPORTED)
_KEPT = ("decision.json", "export.result.json", "shadow.report.json")  # and the logs, which error messages point to


def superfluous(
    on_disk: Collection[int], *, needed: Collection[int], turned_away: Collection[int], most: int
) -> tuple[int, ...]:
    """The versions to delete so that at most `most` stay, ascending; needed ones stay even beyond that.

    Versions that a rollout turned away go first, then the oldest.

    >>> superfluous([1, 2, 3, 4, 5], needed=[1], turned_away=[4], most=3)
    (2, 4)
    """
    may_go = sorted(set(on_disk) - set(needed), key=lambda version: (version not in turned_away, version))
    return tuple(sorted(may_go[: max(0, len(set(on_disk)) - most)]))


def remove_superfluous(
    ledger: Ledger, workspace: Workspace, repository: ModelRepository, model: str
) -> tuple[int, ...]:
    """Delete bundles beyond `cycle.disk_versions` and return their versions.

    Kept are all that the route, `config.pbtxt`, the router's file and a cycle under way name, and what is being made.
    """
    route, engine = ledger.route(model), workspace.engine_model(model)
    check_not_behind(route, workspace, model)
    if route is None:
        return ()
    needed = {route.champion, *route.resident, *repository.engine_versions(engine)}
    if (seen := workspace.read_route(model)) is not None:
        needed |= {seen.champion, *seen.resident}
    if (row := ledger.active_cycle(model)) is not None:
        cycle = decode(row.payload)
        needed |= {cycle.champion} | ({cycle.challenger} if cycle.challenger is not None else set())
    on_disk = repository.versions(engine)
    states = {row.version: row.state for row in ledger.versions(model, among=on_disk)}
    needed |= {v for v, state in states.items() if state in {VersionState.TRAINING, VersionState.EXPORTED}}
    turned_away = {version for version, state in states.items() if state in _TURNED_AWAY}
    most = workspace.model(model).cycle.disk_versions
    old = superfluous(on_disk, needed=needed, turned_away=turned_away, most=most)
    for version in old:
        repository.remove_version(engine, version)
    if old:
        logger.info("bundles.removed", extra={"model": model, "versions": list(old)})
    return old


def prune_runs(ledger: Ledger, workspace: Workspace, model: str, *, now: datetime, keep: timedelta) -> tuple[int, ...]:
    """Remove what nobody reads any more of a model's work folders; return the versions whose folder went whole.

    A folder's trained state and rows serve its own cycle: a killed training, export or judgement goes on with them, so
    versions not yet published keep everything, and so does a cycle under way until its version is champion. Afterwards
    nothing reads them, not even for the champion: the next training, an export for another engine and the correction
    after an erasure start from the bundle, which holds encoder, head and sums. So a day after its last file was
    written, a finished version's folder keeps its logs and reports alone; it goes whole with its bundle, or after
    `keep`: a shadow report quotes traffic.
    """
    cycle = ledger.active_cycle(model)
    at_work = decode(cycle.payload).challenger if cycle is not None and cycle.hinders_erasure else None
    folders = _folders(workspace, model)
    rows = {row.version: row for row in ledger.versions(model, among=[int(folder.name) for folder in folders])}
    gone = []
    for folder in folders:
        number = int(folder.name)
        row, age = rows.get(number), now.timestamp() - _written(folder)
        if number == at_work or age < _IN_USE.total_seconds():
            continue
        bundle_gone = row is not None and row.published_at is not None and not workspace.bundle(model, number).is_dir()
        if bundle_gone or age > keep.total_seconds():
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(number)
        elif row is None or row.state not in _UNFINISHED:
            _keep_reports(folder)
    return tuple(gone)


def _folders(workspace: Workspace, model: str) -> list[Path]:
    parent = workspace.run(model, 1).parent
    folders = [path for path in parent.iterdir() if path.name.isdigit()] if parent.is_dir() else []
    return sorted(folders, key=lambda path: int(path.name))


def _written(folder: Path) -> float:
    """When a file in it was written last, in seconds of unix time; 0 for an empty one."""
    return max((path.stat().st_mtime for path in folder.rglob("*") if path.is_file()), default=0.0)


def _keep_reports(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix != ".log" and path.name not in _KEPT:
            path.unlink(missing_ok=True)


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
        """Remove the versions on tainted encoders that don't answer, and return them; not while a cycle learns.

        When the champion's encoder is clean too, the tainted ones are forgotten.
        """
        encoders, route = tainted_encoders(self.ledger, self.model), self.ledger.route(self.model)
        cycle = self.ledger.active_cycle(self.model)
        if not encoders or route is None or (cycle is not None and cycle.hinders_erasure):
            return ()
        on_disk = set(self.repository.versions(self.workspace.engine_model(self.model)))
        rows = self.ledger.versions(self.model)
        held = [row.version for row in rows if row.version in on_disk and row.encoder_fingerprint in encoders]
        removable = tuple(version for version in held if version != route.champion)
        self.drop(removable, actor=actor, reason=f"the encoder of versions {list(removable)} was tuned on erased rows")
        if route.champion not in held:
            forget_tainted(self.ledger, self.model)
        return removable
