"""Changes of the route, by an operator or the loop: written to the ledger, told to the routers, then committed."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from perennial.continual.errors import NotFound, PerennialError
from perennial.continual.records import Route
from perennial.ops.ledger.ports import RouteMoves
from perennial.ops.store.ledger_guard import check_not_behind
from perennial.ops.store.workspace import Workspace

__all__ = ["RouteChange", "change_route", "restore_route_file"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChange:
    """A route before and after."""

    before: Route
    after: Route


def change_route(
    ledger: RouteMoves, workspace: Workspace, model: str, change: Callable[[Route], Route], *, actor: str, reason: str
) -> RouteChange:
    """Change a model's route in the ledger, with its audit entry, and in the router's file.

    The file is replaced inside the ledger's transaction, as the last thing before the commit: the routers need not
    wait for the disk, and files follow each other in the order of the epochs. It counts once it is committed: when
    that fails, or the process is killed before it, the file goes back to what the ledger says (`restore_route_file`).
    A change that changes nothing writes nothing. `change` must not do anything slow: other writers wait for it.

    Raises:
        NotFound: the model has no route yet.
        LedgerBehind: the ledger is older than what the routers were told.
        DependencyUnreachable: the ledger did not take the change; the route is the one before.
    """
    seen: list[Route] = []  # the route as it was, and what the routers were told

    def decide(route: Route) -> Route:
        check_not_behind(route, workspace, model)
        seen.append(route)
        return change(route)

    def follow(route: Route) -> None:
        seen.append(route)
        workspace.write_route(route)

    try:
        before, after = ledger.move_route(model, decide, actor=actor, reason=reason, follow=follow)
    except NotFound:
        check_not_behind(None, workspace, model)
        raise
    except BaseException:
        if len(seen) == 2:
            _take_back(ledger, workspace, RouteChange(before=seen[0], after=seen[1]))
        raise
    return RouteChange(before=before, after=after)


def restore_route_file(ledger: RouteMoves, workspace: Workspace, model: str) -> Route | None:
    """Make the router's file say what the ledger says; return the route where the file had to change, else None.

    A file that is ahead is either of a change about to be committed, which is waited for, or of one that never will
    be, because its process was killed: then it goes back.

    Raises:
        LedgerBehind: the file is further ahead, or the ledger knows no route.
    """
    if workspace.read_route(model) == ledger.route(model):
        return None
    with ledger.route_held(model) as route:
        check_not_behind(route, workspace, model)
        return route if route is not None and workspace.write_route(route) else None


def _take_back(ledger: RouteMoves, workspace: Workspace, failed: RouteChange) -> None:
    """Let the routers forget a change that was not committed; where this fails, the next reconcile pass does it."""
    facts = {"model": failed.before.model, "epoch": failed.after.epoch}
    try:
        try:
            restore_route_file(ledger, workspace, failed.before.model)
        except PerennialError:  # without the ledger nobody else can have gone on from here
            if workspace.read_route(failed.before.model) == failed.after:
                workspace.write_route(failed.before)
    except OSError as exc:
        logger.error("route.not_taken_back", extra=facts | {"error": str(exc)})
