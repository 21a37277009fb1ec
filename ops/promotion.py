"""An operator's promotion and rollback: every server follows, or none does."""

from contextlib import suppress
from dataclasses import asdict
from typing import Any

from continual.errors import NotFound, PerennialError
from continual.records import Route
from ops.operations import change_route, pinned, promoted, rolled_back, without_challenger
from ops.wiring import Parts

__all__ = ["promote_version", "roll_back_version"]

_PATIENCE_S = 20.0  # for a server that is being restarted


def promote_version(parts: Parts, model: str, version: int, *, actor: str, reason: str) -> dict[str, Any]:
    """Make a version champion; one that is not loaded is loaded and probed first, on every server.

    All servers or none: when one of them does not take the version, it is taken out of the others again.

    Raises:
        NotFound: the version has no bundle.
        PublishFailed, BundleRejected, DependencyUnreachable: a server does not hold it; the champion is unchanged.
    """
    route = parts.ledger.route(model)
    if route is None or not parts.workspace.bundle(model, version).is_dir():
        on_disk = parts.repository.versions(parts.workspace.engine_model(model))
        raise NotFound(f"{model} has no bundle of version {version}; on disk are {list(on_disk)}")
    if version not in route.resident:
        _load_everywhere(parts, route, version, actor=actor, reason=reason)
    elif len(parts.controls) > 1:
        parts.reconciler.reconcile(model, patience_s=_PATIENCE_S)  # one of them may have lost it
    keep = parts.workspace.model(model).cycle.resident_versions
    change = change_route(
        parts.ledger, parts.workspace, model, promoted(version, resident=keep), actor=actor, reason=reason
    )
    return asdict(change.after)


def roll_back_version(parts: Parts, model: str, *, to: int | None, actor: str, reason: str) -> dict[str, Any]:
    """Put the previous champion (or `to`) back. Both being resident, no Triton call is made."""
    if to is not None:
        route = parts.ledger.route(model)
        if route is not None and to not in route.resident:
            return promote_version(parts, model, to, actor=actor, reason=reason)
    change = change_route(parts.ledger, parts.workspace, model, rolled_back(to=to), actor=actor, reason=reason)
    if (cycle := parts.ledger.active_cycle(model)) is not None:
        parts.ledger.request_command(model, "rolled_back", {"cycle": cycle.id}, actor)
    return asdict(change.after)


def _load_everywhere(parts: Parts, route: Route, version: int, *, actor: str, reason: str) -> None:
    model = route.model
    change_route(parts.ledger, parts.workspace, model, pinned(version), actor=actor, reason=f"load for: {reason}")
    try:
        parts.reconciler.reconcile(model, patience_s=_PATIENCE_S)
    except PerennialError as exc:
        note = f"version {version} could not be loaded everywhere: {exc}"
        change_route(parts.ledger, parts.workspace, model, without_challenger(version), actor=actor, reason=note)
        with suppress(PerennialError):  # what could not be undone now is undone by the timer; the first error counts
            parts.reconciler.reconcile(model)
        raise
