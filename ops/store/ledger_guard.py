"""A ledger that knows less than the routers' file: lost, emptied, or restored from an old copy. It commands nobody."""

from perennial.continual.errors import Refused
from perennial.continual.records import Route
from perennial.ops.ledger.ports import Routes
from perennial.ops.store.workspace import Workspace

__all__ = ["LedgerBehind", "check_not_behind", "route_to_serve"]

_UNDER_WAY = 1  # the file is written inside the ledger's transaction: it may be one change ahead, and no more


class LedgerBehind(Refused):
    """The ledger is older than what the routers were told; following it could take away what answers."""


def check_not_behind(route: Route | None, workspace: Workspace, model: str) -> None:
    """Return when the ledger's route is not older than what the routers were told.

    Raises:
        LedgerBehind: it is, or there is none.
    """
    followed = workspace.read_route(model)
    if followed is None or (route is not None and followed.epoch <= route.epoch + _UNDER_WAY):
        return
    known = f"knows no route of {model}" if route is None else f"has the route of {model} at epoch {route.epoch}"
    raise LedgerBehind(
        f"the ledger {known}, and the routers' file {workspace.route_file(model)} names version {followed.champion} at "
        f"epoch {followed.epoch}: the ledger was lost, emptied or restored from an old copy. What answers goes on "
        f"answering and nothing is changed. Put the right ledger back, or run `perennial ledger rebuild` (first with "
        f"--dry-run); to follow the ledger all the same, delete that file"
    )


def route_to_serve(ledger: Routes, workspace: Workspace, model: str) -> Route | None:
    """Return the route to serve: the ledger's, or where the ledger is behind what the routers were told last."""
    route = ledger.route(model)
    try:
        check_not_behind(route, workspace, model)
    except LedgerBehind:
        return workspace.read_route(model)
    return route
