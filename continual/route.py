"""Changes of a route as functions from a route to a route: what a promotion, a rollback or a canary makes of it."""

from collections.abc import Callable, Collection, Set
from dataclasses import dataclass, replace

from perennial.continual.errors import Overtaken, Refused
from perennial.continual.records import Route

__all__ = [
    "ANY_ROUTE",
    "ExpectedRoute",
    "corrected",
    "pinned",
    "promoted",
    "rolled_back",
    "settled",
    "turned_away",
    "while_champion",
    "with_challenger",
    "without_challenger",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedRoute:
    """The route that somebody has seen and wants changed; None is anything."""

    champion: int | None = None
    epochs: frozenset[int] | None = None

    def check(self, route: Route) -> None:
        """Return where the route is the one that was seen.

        Raises:
            Overtaken: it is another one.
        """
        if self.champion is not None and route.champion != self.champion:
            raise Overtaken(
                f"version {route.champion} of {route.model} is champion, and version {self.champion} is expected; "
                f"look again, and ask for what is right now"
            )
        if self.epochs is not None and route.epoch not in self.epochs:
            raise Overtaken(
                f"the route of {route.model} is at epoch {route.epoch}, and {sorted(self.epochs)} is expected; look "
                f"again, and ask for what is right now"
            )

    def only(self, change: Callable[[Route], Route]) -> Callable[[Route], Route]:
        """The change, which is refused where the route is another one by then."""

        def checked(route: Route) -> Route:
            self.check(route)
            return change(route)

        return checked


ANY_ROUTE = ExpectedRoute()


def while_champion(expected: Collection[int], change: Callable[[Route], Route]) -> Callable[[Route], Route]:
    """The change, unless a champion that is not expected has come meanwhile: then the route is left alone."""
    return lambda route: change(route) if route.champion in expected else route


def with_challenger(version: int, share: float, *, resident: int) -> Callable[[Route], Route]:
    """The challenger is loaded and takes `share` of the live requests; at most `resident` older versions stay.

    A version that is champion already is left alone.
    """

    def change(route: Route) -> Route:
        if route.champion == version:
            return route
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


def corrected(version: int, *, of: int, resident: int) -> Callable[[Route], Route]:
    """`version`, a copy of champion `of` with less in it, answers in its place; a rollback leads where it led before.

    Where another champion has come meanwhile it is an ordinary promotion.

    Raises (when applied):
        Refused: the version is not resident.
    """

    def change(route: Route) -> Route:
        after = promoted(version, resident=resident)(route)
        if route.champion != of:
            return after
        return replace(after, previous=route.previous, resident=route.resident)

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


def turned_away(version: int, *, to: int) -> Callable[[Route], Route]:
    """`to` answers again in place of `version`, to which no later rollback leads; another champion is left alone."""

    def change(route: Route) -> Route:
        if route.champion != version:
            return route
        back = rolled_back(to=to)(route)
        if back.challenger == version:
            back = replace(back, challenger=None, share=0.0)
        return replace(back, previous=None if back.previous == version else back.previous)

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
        kept = _keep(route.resident, needed, resident)
        return replace(route, resident=kept, previous=route.previous if route.previous in kept else None)

    return change


def _keep(resident: tuple[int, ...], needed: Set[int | None], most: int) -> tuple[int, ...]:
    """The newest versions up to `most`, and whatever is needed."""
    must = {v for v in needed if v is not None}
    newest = sorted(set(resident) - must, reverse=True)[: max(0, most - len(must))]
    return tuple(sorted(must | set(newest)))
