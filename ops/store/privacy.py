"""What a model's versions may tell of rows, and the file of what they have told."""

import math
from pathlib import Path
from typing import Any

from perennial.continual.learning.card import noise_of
from perennial.continual.preparation import admit_name
from perennial.continual.privacy.budget import Terms
from perennial.continual.privacy.noise import Privacy
from perennial.ops.store.workspace import Workspace

__all__ = ["budget_of", "terms_of"]

_TELLINGS = 3  # of the same rows, by default: the first, and an erasure or two challengers that were turned away


def budget_of(workspace: Workspace, model: str) -> Path:
    """Where it is kept what a model's versions have told; a backup holds it, and a removed model leaves it."""
    return workspace.state / "privacy" / f"{admit_name(model)}.json"


def terms_of(workspace: Workspace, model: str, version: int, *, corrects: Path | None = None) -> dict[str, Any] | None:
    """What the training of a version is told of privacy; None where it is learnt without noise.

    One that `corrects` a bundle keeps that one's noise or has none, whatever the settings say by now.
    """
    settings = workspace.model(model).privacy
    epsilon, delta = settings.version_epsilon, settings.delta
    if epsilon is None and settings.epsilon is not None:
        epsilon = Privacy(epsilon=settings.epsilon, delta=delta).share(_TELLINGS)
    by: str = settings.by
    if corrects is not None:
        before = noise_of(corrects)
        if before is None:
            return None
        epsilon, delta, by = float(before["epsilon"]), float(before["delta"]), str(before["by"])
    if epsilon is None:
        return None
    return Terms(
        epsilon=epsilon,
        delta=delta,
        limit=math.inf if settings.epsilon is None else settings.epsilon,
        budget=budget_of(workspace, model),
        model=model,
        version=version,
        by=by,
    ).record()
