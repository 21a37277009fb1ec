"""Changes of the route, by an operator or the loop: through the ledger first, then to the router's file."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from continual.errors import NotFound, Refused
from continual.records import Route
from ops.ledger import Conflict, Ledger
from ops.workspace import Workspace

__all__ = [
    "RouteChange",
    "change_route",
    "pinned",
    "promoted",
    "rolled_back",
    "settled",
    "with_challenger",
    "without_challenger",
]

_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChange:
    """A route before and after."""

    before: Route
    after: Route


def change_route(
    ledger: Ledger, workspace: Workspace, model: str, change: Callable[[Route], Route], *, actor: str, reason: str
) -> RouteChange:
    """Change a model's route in the ledger, with its audit entry, and then in the router's file.

    A change that changes nothing writes nothing. Killed between the two writes, the next reconcile pass (or the next
    change) brings the file up to the ledger.

    Raises:
        NotFound: the model has no route yet.
        Conflict: others kept changing the route at the same time.
    """
    for attempt in range(_TRIES):
        before = ledger.route(model)
        if before is None:
            raise NotFound(
                f"model {model} serves no version yet; train the first one with `perennial init --data FILE`"
            )
        after = change(before)
        if replace(after, epoch=before.epoch) == before:
            workspace.write_route(before)
            return RouteChange(before=before, after=before)
        after = replace(after, epoch=before.epoch + 1)
        try:
            ledger.set_route(after, expected_epoch=before.epoch, actor=actor, reason=reason)
        except Conflict:
            if attempt == _TRIES - 1:
                raise
            continue
        workspace.write_route(after)
        return RouteChange(before=before, after=after)
    raise AssertionError("unreachable: the last attempt returns or raises")


def with_challenger(version: int, share: float, *, resident: int) -> Callable[[Route], Route]:
    """The challenger is loaded and takes `share` of the live requests; at most `resident` older versions stay."""

    def change(route: Route) -> Route:
        keep = _keep((*route.resident, version), {route.champion, route.previous, version}, resident + 1)
        return replace(route, challenger=version, share=share, resident=keep)

    return change


def without_challenger(version: int) -> Callable[[Route], Route]:
    """The challenger takes no request any more and is unloaded. A route with another challenger is left alone."""

    def change(route: Route) -> Route:
        if route.challenger != version and (
            version not in route.resident or version in {route.champion, route.previous}
        ):
            return route
        kept = tuple(v for v in route.resident if v != version or v in {route.champion, route.previous})
        if route.challenger != version:
            return replace(route, resident=kept)
        return replace(route, challenger=None, share=0.0, resident=kept)

    return change


def promoted(version: int, *, resident: int) -> Callable[[Route], Route]:
    """A resident version becomes champion; the champion before it stays resident.

    Raises (when applied):
        Refused: the version is not resident.
    """

    def change(route: Route) -> Route:
        if version == route.champion:
            return route
        if version not in route.resident:
            raise Refused(
                f"version {version} of {route.model} is not loaded (resident: {list(route.resident)}); load it first"
            )
        challenger = None if route.challenger == version else route.challenger
        keep = _keep(route.resident, {version, route.champion, challenger}, resident)
        return replace(
            route,
            champion=version,
            previous=route.champion,
            challenger=challenger,
            share=0.0 if challenger is None else route.share,
            resident=keep,
        )

    return change


def rolled_back(*, to: int | None = None) -> Callable[[Route], Route]:
    """The previous champion (or `to`) answers again; the one it replaces stays resident.

    Raises (when applied):
        Refused: there is no previous champion, or `to` is not resident.
    """

    def change(route: Route) -> Route:
        target = route.previous if to is None else to
        if target is None:
            raise Refused(
                f"model {route.model} has no previous champion; name one with --to (see `perennial model list`)"
            )
        if target == route.champion:
            return route
        return promoted(target, resident=max(2, len(route.resident)))(route)

    return change


def pinned(version: int) -> Callable[[Route], Route]:
    """The version is resident, so that it can be promoted at once."""
    return lambda route: replace(route, resident=tuple(sorted({*route.resident, version})))


def settled(*, resident: int) -> Callable[[Route], Route]:
    """At most `resident` versions stay loaded; champion and challenger always do, and the previous one goes last."""

    def change(route: Route) -> Route:
        needed = {v for v in (route.champion, route.challenger) if v is not None}
        if route.previous is not None and len(needed | {route.previous}) <= resident:
            needed.add(route.previous)
        kept = _keep(route.resident, {*needed}, resident)
        return replace(route, resident=kept, previous=route.previous if route.previous in kept else None)

    return change


def _keep(resident: tuple[int, ...], needed: set[int | None], most: int) -> tuple[int, ...]:
    """The newest versions up to `most`, and whatever is needed."""
    must = {v for v in needed if v is not None}
    newest = sorted(set(resident) - must, reverse=True)[: max(0, most - len(must))]
    return tuple(sorted(must | set(newest)))
