"""How many bundles stay on disk: the newest, and whatever somebody still needs."""

import logging
from collections.abc import Collection

from ops.ledger import Ledger, VersionState
from ops.ledger_guard import check_not_behind
from ops.loop.runner import decode
from ops.triton.repository import ModelRepository
from ops.workspace import Workspace

__all__ = ["remove_superfluous", "superfluous"]

logger = logging.getLogger(__name__)
_TURNED_AWAY = (VersionState.REFUSED, VersionState.FAILED)


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
    states = {row.version: row.state for row in ledger.versions(model)}
    needed |= {v for v, state in states.items() if state in {VersionState.TRAINING, VersionState.EXPORTED}}
    turned_away = {version for version, state in states.items() if state in _TURNED_AWAY}
    most = workspace.model(model).cycle.disk_versions
    old = superfluous(repository.versions(engine), needed=needed, turned_away=turned_away, most=most)
    for version in old:
        repository.remove_version(engine, version)
    if old:
        logger.info("bundles.removed", extra={"model": model, "versions": list(old)})
    return old
