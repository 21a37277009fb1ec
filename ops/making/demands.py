"""What the gate asks of one challenger, by what it is for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from perennial.continual.learning.card import is_finished, noise_of, read_card
from perennial.continual.records import Split
from perennial.continual.tasks import task_named
from perennial.ops.ledger import Ledger, VersionRow
from perennial.ops.making.starting_point import StartingPoint
from perennial.ops.store.workspace import Workspace

__all__ = ["Demands"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """Fields of `GateRules`, and whether old rows are judged with the new classes allowed as answers."""

    rules: dict[str, Any]
    old_among_all: bool = False

    @classmethod
    def on(cls, ledger: Ledger, workspace: Workspace, model: str, version: int, champion: VersionRow) -> Self:
        """The settings' rules, except for challengers that cannot show a gain on fresh rows.

        One that takes the place of a champion whose encoder was tuned on erased rows may lose `margin_points`, and so
        may the first one with noise. One
        that brings described classes without held-out rows may take nothing from the old classes: their rows are
        judged with every class allowed, so that a description which draws them away is refused. The same holds for
        one with other sums of other sites than the champion has.
        """
        cycle = workspace.model(model).cycle
        rules = {
            "min_gain_points": cycle.min_gain_points,
            "max_forgetting_points": cycle.max_forgetting_points,
            "min_fresh_rows": cycle.min_fresh_rows,
            "old_rows_bind": task_named(workspace.model(model).task).stays_right,
        }
        begins = StartingPoint.of(ledger, workspace, model, champion).afresh
        if begins or _noise_is_new(workspace, model, version, champion):
            most = max(cycle.max_forgetting_points, cycle.margin_points)
            return cls(rules=rules | {"min_gain_points": -most, "max_forgetting_points": most, "min_fresh_rows": 0})
        if _others_changed(workspace, model, version, champion):
            return cls(rules=rules | {"min_fresh_rows": 0}, old_among_all=True)
        if _unproven(ledger, model, version, champion):
            return cls(rules=rules | {"min_fresh_rows": 0}, old_among_all=True)
        return cls(rules=rules)


def _others_changed(workspace: Workspace, model: str, version: int, champion: VersionRow) -> bool:
    """By what the two are made of: others may have been taken or left since the challenger was trained."""
    challenger = _made(workspace, model, version)
    return _others_in(challenger) != _others_in(workspace.bundle(model, champion.version))


def _noise_is_new(workspace: Workspace, model: str, version: int, champion: VersionRow) -> bool:
    """Whether the challenger was learnt with noise and the champion without: what noise costs is no forgetting."""
    before, after = workspace.bundle(model, champion.version), _made(workspace, model, version)
    return noise_of(after) is not None and noise_of(before) is None


def _made(workspace: Workspace, model: str, version: int) -> Path:
    """Where a challenger lies by now."""
    trained = workspace.run(model, version) / "trained"
    return trained if is_finished(trained) else workspace.bundle(model, version)


def _others_in(folder: Path) -> str | None:
    """Which exchange a version counts; None where it learnt alone."""
    told: str | None = read_card(folder).settings.get("others") if is_finished(folder) else None
    return told


def _unproven(ledger: Ledger, model: str, version: int, champion: VersionRow) -> bool:
    added = set(ledger.version(model, version).labels) - set(champion.labels)
    described = {row.label for row in ledger.descriptions(model)}
    held_out = ledger.label_counts(model, Split.HOLDOUT)
    return any(not held_out.get(label) for label in added & described)
