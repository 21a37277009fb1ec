"""An operator's promotion and rollback: every server follows, or none does."""

from collections.abc import Callable
from contextlib import suppress

from perennial.continual.errors import NotFound, Overtaken, PerennialError, PublishFailed
from perennial.continual.preparation import admit_note
from perennial.continual.records import Route
from perennial.continual.route import (
    ANY_ROUTE,
    ExpectedRoute,
    corrected,
    pinned,
    promoted,
    rolled_back,
    without_challenger,
)
from perennial.ops.parts import Parts
from perennial.ops.settings import ModelSettings, Settings
from perennial.ops.store.ledger_guard import check_not_behind
from perennial.ops.store.removals import is_removed
from perennial.ops.store.route_changes import RouteChange, change_route

__all__ = ["promote_version", "resident_versions", "roll_back_version"]

Change = Callable[[Route], Route]
_PATIENCE_S = 20.0  # for a server that is being restarted
_ASKED_S = 0.5  # a server takes one millisecond to say what it holds


def promote_version(
    parts: Parts,
    model: str,
    version: int,
    *,
    actor: str,
    reason: str,
    corrects: int | None = None,
    expected: ExpectedRoute = ANY_ROUTE,
) -> Route:
    """Make a version champion; one that is not loaded is loaded and probed first, on every server.

    All servers or none: when one of them does not take the version, it is taken out of the others again. `corrects` is
    the champion of which it is a copy with less in it: a rollback leads to the version before both.

    Raises:
        DataError: the reason is empty or longer than 500 characters.
        NotFound: the version has no bundle, or the model serves none yet or was removed.
        Overtaken: the route is not the expected one, or another version became champion while this one was loaded.
        PublishFailed, BundleRejected, DependencyUnreachable: a server does not hold it; the champion is unchanged.
    """
    reason, route = admit_note(reason), _route(parts, model)
    if route.champion != version:  # else it is as wished already
        expected.check(route)
    if not parts.workspace.bundle(model, version).is_dir():
        on_disk = parts.repository.versions(parts.workspace.engine_model(model))
        raise NotFound(
            f"{model} has no bundle of version {version}; on disk are {list(on_disk)}: promote one of these, or see "
            f"`perennial model list`"
        )
    if loads := version not in route.resident:
        _load_everywhere(parts, route, version, actor=actor, reason=reason, expected=expected)
        expected = ExpectedRoute(champion=expected.champion)  # the epoch has moved by the loading itself
    elif len(parts.controls) > 1:
        parts.reconciler.reconcile(model, patience_s=_PATIENCE_S)  # one of them may have lost it
    else:
        _have_held(parts, model, version)
    _check_there(parts, model)  # loading takes its time
    if route.champion != version and not loads:
        parts.reconciler.wake(model, version)
    keep = resident_versions(parts.settings, model)
    if corrects is not None:
        change = corrected(version, of=corrects, resident=keep)
    else:
        change = _unless_overtaken(route, version, expected, promoted(version, resident=keep))
    try:
        return change_route(parts.ledger, parts.workspace, model, change, actor=actor, reason=reason).after
    except Overtaken as exc:
        if loads:
            _take_out(parts, model, version, actor=actor, note=str(exc))
        raise


def roll_back_version(
    parts: Parts, model: str, *, to: int | None, actor: str, reason: str, expected: ExpectedRoute = ANY_ROUTE
) -> Route:
    """Put the previous champion (or `to`) back. Both being loaded, Triton is asked for nothing but that they are.

    Where the last pass found the version on every server they are asked after the flip: a rollback has no time to lose.

    Raises:
        DataError: the reason is empty or longer than 500 characters.
        NotFound: the model serves no version yet or was removed; Refused: there is no previous champion.
        Overtaken: the route is not the expected one.
        PublishFailed: a server that answers does not hold the version, or the version cannot answer there; the
            champion is unchanged.
    """
    reason = admit_note(reason)
    _check_there(parts, model)
    route = parts.workspace.read_route(model) or _route(parts, model)
    if to is None or route.champion != to:  # else it is as wished already
        expected.check(route)
    if to is not None and to not in route.resident:
        return promote_version(parts, model, to, actor=actor, reason=reason, expected=expected)
    target = route.previous if to is None else to
    sure = target is None or parts.reconciler.proved(model, target)
    if target is not None and not sure:
        _have_held(parts, model, target)
    flip = expected.only(rolled_back(to=to))
    if target is not None:
        if target != route.champion:
            parts.reconciler.wake(model, target)
        # What the route named when it was read: two that go back at once must not undo each other
        flip = _unless_overtaken(route, target, expected, rolled_back(to=target))
    change = change_route(parts.ledger, parts.workspace, model, flip, actor=actor, reason=reason)
    if sure:
        _check_flip(parts, change, actor=actor)
    if (cycle := parts.ledger.active_cycle(model)) is not None:
        parts.ledger.request_command(model, "rolled_back", {"cycle": cycle.id}, actor)
    return change.after


def _unless_overtaken(seen: Route, version: int, expected: ExpectedRoute, change: Change) -> Change:
    """The change by which a version becomes champion, unless a third one has become it since the route was read."""

    def checked(route: Route) -> Route:
        if route.champion == version:
            return route
        ExpectedRoute(champion=seen.champion).check(route)
        expected.check(route)
        return change(route)

    return checked


def resident_versions(settings: Settings, model: str) -> int:
    """How many versions stay loaded; of a model whose section cannot be used, as many as of one that says nothing."""
    configured = settings.models.get(model)
    return (ModelSettings() if configured is None else configured).cycle.resident_versions


def _check_there(parts: Parts, model: str) -> None:
    """Return while the model is one of the workspace's.

    Raises:
        NotFound: somebody took it out.
    """
    if is_removed(parts.ledger, model):
        raise NotFound(
            f"model {model} was removed, so that no version of it is loaded; name it in the settings file again, "
            f"and a running `perennial serve` takes it up"
        )


def _route(parts: Parts, model: str) -> Route:
    _check_there(parts, model)
    route = parts.ledger.route(model)
    check_not_behind(route, parts.workspace, model)
    if route is None:
        raise NotFound(
            f"model {model} serves no version yet; train the first one with `perennial init {model} --data FILE`"
        )
    return route


def _have_held(parts: Parts, model: str, version: int) -> None:
    """Return when no server says that it lacks a resident version; one that does gets it, or tells why it cannot.

    A server that does not answer is waited for by nobody: it gets the version before it answers.
    """
    if not _lacking(parts, model, version):
        return
    try:
        parts.reconciler.reconcile(model)
    except PerennialError as exc:
        if lacking := _lacking(parts, model, version):
            raise PublishFailed(
                f"version {version} of {model} is not loaded at {', '.join(lacking)} and the champion stays: {exc}"
            ) from exc


def _check_flip(parts: Parts, change: RouteChange, *, actor: str) -> None:
    """Take a flip back where a server lacks its version after all; until then the version before it answers there."""
    model, champion = change.after.model, change.after.champion

    def back(route: Route) -> Route:
        return change.before if route == change.after else route

    try:
        _have_held(parts, model, champion)
    except PublishFailed as exc:
        change_route(parts.ledger, parts.workspace, model, back, actor=actor, reason=str(exc))
        raise


def _lacking(parts: Parts, model: str, version: int) -> list[str]:
    engine = parts.workspace.engine_model(model)
    return [c.url for c in parts.controls if c.holds(engine, version, timeout_s=_ASKED_S) is False]


def _load_everywhere(
    parts: Parts, route: Route, version: int, *, actor: str, reason: str, expected: ExpectedRoute
) -> None:
    model, pin = route.model, expected.only(pinned(version))
    change_route(parts.ledger, parts.workspace, model, pin, actor=actor, reason=f"load for: {reason}")
    try:
        parts.reconciler.reconcile(model, patience_s=_PATIENCE_S)
    except BaseException as exc:  # Ctrl-C too: the version must not stay for ever
        note = f"version {version} could not be loaded everywhere: {str(exc) or type(exc).__name__}"
        _take_out(parts, model, version, actor=actor, note=note)
        raise


def _take_out(parts: Parts, model: str, version: int, *, actor: str, note: str) -> None:
    change_route(parts.ledger, parts.workspace, model, without_challenger(version), actor=actor, reason=note)
    with suppress(PerennialError):  # what could not be undone now is undone by the timer; the first error counts
        parts.reconciler.reconcile(model)
