"""A model taken out of a workspace: it answers no more, and its rows stay."""

from datetime import UTC, datetime
from typing import Any

from perennial.continual.errors import ConfigurationError, NotFound, Refused
from perennial.ops.parts import Parts
from perennial.ops.store import settings_file
from perennial.ops.store.state import REMOVED, Removal

__all__ = ["remove_model"]


def remove_model(parts: Parts, model: str, *, actor: str, answers: bool, dry_run: bool) -> dict[str, Any]:
    """Take a model out of the settings file; a running `serve` lets go of it. What is on disk and in the ledger stays.

    Args:
        parts: the workspace's.
        model: which one.
        actor: who asks; goes to the audit log.
        answers: whether it may go although it answers requests.
        dry_run: only say what would become of it.

    Raises:
        NotFound: the settings file does not name it.
        Refused: it is the last one, it answers requests, or a cycle of it is under way.
        ConfigurationError: the file names it in a way that a person must undo.
    """
    path = parts.config
    named = () if path is None else settings_file.named_models(path)
    if path is None or model not in named:
        raise NotFound(f"{path} does not name model {model}; it names {', '.join(named) or 'none'}")
    if len(named) == 1:
        raise Refused(f"{model} is the only model; name another first with `perennial init NAME`")
    if (cycle := parts.ledger.active_cycle(model)) is not None and not cycle.on_probation:
        raise Refused(f"{model} has cycle {cycle.id} under way ({cycle.state}); end it with `perennial rollout abort`")
    route = parts.ledger.route(model)
    if route is not None and not answers:
        raise Refused(
            f"version {route.champion} of {model} answers requests, which would fail; say --although-it-answers to "
            f"remove it all the same"
        )
    removal = {
        "model": model,
        "champion": None if route is None else route.champion,
        "kept": "rows, versions and traffic",
    }
    if dry_run:
        return {"dry_run": True, **removal}
    if not any(row.name == model for row in parts.ledger.models()):
        parts.ledger.register_model(model, {})
    parts.ledger.audit(actor, "model.removed", model, removal)
    REMOVED.keep(parts.ledger, model, Removal(by=actor, at=datetime.now(UTC).isoformat()))
    try:
        settings_file.remove_model(path, model)
    except (ConfigurationError, OSError):
        REMOVED.keep(parts.ledger, model, None)
        raise
    return removal
