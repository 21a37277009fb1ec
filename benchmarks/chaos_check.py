"""What the chaos benchmark looks at: the journal, whether all is as the ledger says, and what was lost."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos_world import MODEL
from perennial.continual.errors import NotFound, PerennialError
from perennial.ops.ledger import Ledger, VersionState
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog

__all__ = ["ASKED", "Entry", "Journal", "champion_wrong", "commands_kept", "lost"]

ASKED = 8  # keys that are asked about at once, so that both arms of a canary answer
Ask = Callable[[], Sequence[int]]  # the versions that answered `ASKED` different keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One side of a journalled step."""

    number: int
    step: str
    phase: str


class Journal:
    """The ledger's journal as it grows, read without disturbing it."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)

    def newest(self) -> Entry:
        """The newest entry; number 0 while there is none."""
        found = self._database.execute("SELECT id, step, phase FROM journal_entry ORDER BY id DESC LIMIT 1").fetchone()
        return (
            Entry(number=0, step="", phase="")
            if found is None
            else Entry(number=int(found[0]), step=str(found[1]), phase=str(found[2]))
        )

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def champion_wrong(ledger: Ledger, workspace: Workspace, ask: Ask) -> str:
    """What is not as the ledger says about the champion now; empty when there is exactly the ledger's one."""
    route = ledger.route(MODEL)
    if route is None:
        return "the ledger has no route"
    if (seen := workspace.read_route(MODEL)) != route:
        return f"the route file says {seen}, the ledger {route}"
    held = [row.version for row in ledger.versions(MODEL) if row.state is VersionState.CHAMPION]
    if held != [route.champion]:
        return f"versions {held} are marked champion, the route says {route.champion}"
    try:
        answers = set(ask())
    except PerennialError as exc:
        return f"no answer: {str(exc)[:150]}"
    allowed = {route.champion, *([route.challenger] if route.share else [])}
    if ledger.route(MODEL) != route:
        return "the route changed meanwhile"
    if route.champion not in answers or not answers <= allowed:
        return f"champion {route.champion} is the ledger's, answers came from {sorted(answers)}"
    return ""


def commands_kept(ledger: Ledger, promised: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many acknowledged commands there are, and which of them were lost or, once taken up, refused.

    Args:
        ledger: whose inbox holds commands to a cycle, and whose audit log holds each route that was ever set.
        promised: what each command was answered with. One to a cycle names its number; a rollback answers with the
            route as it became, and is kept when exactly that champion was set at exactly that epoch.
    """
    champions: dict[int, int] = {
        int(entry.detail["to"]["epoch"]): int(entry.detail["to"]["champion"])
        for entry in ledger.audit_entries(MODEL)
        if entry.action == "route.set"
    }
    missing: list[str] = []
    refused: list[str] = []
    for promise in promised:
        if "command" in promise:
            outcome = _outcome(ledger, int(promise["command"]))
            if outcome is None:
                missing.append(f"command {promise['command']} was never carried out")
            elif outcome.startswith("refused"):
                refused.append(f"command {promise['command']}: {outcome}")
        elif (seen := champions.get(int(promise["epoch"]))) != int(promise["champion"]):
            at = "was never set" if seen is None else f"has champion {seen}"
            missing.append(f"the route of epoch {promise['epoch']} {at}, {promise['champion']} was promised")
    return {
        "commands": len(promised),
        "commands_lost": len(missing),
        "commands_lost_why": missing,
        "commands_refused": len(refused),
        "commands_refused_why": refused,
    }


def _outcome(ledger: Ledger, number: int) -> str | None:
    """How a command ended; None while it has not, or is in the ledger no more."""
    try:
        row = ledger.command(number)
    except NotFound:
        return None
    return None if row.finished_at is None else str(row.outcome)


def lost(
    ledger: Ledger, workspace: Workspace, answered: Sequence[str], acknowledged: Mapping[str, str]
) -> dict[str, int]:
    """What was promised to the customers, and what of it is not there.

    Args:
        ledger: where acknowledged labels must be, by prediction id, with the label that was given.
        workspace: where the traffic log is; it must hold every prediction id that a client received.
        answered: prediction ids that clients received.
        acknowledged: labels that the API accepted, by prediction id.
    """
    logged: set[str] = set()
    log = TrafficLog(workspace.traffic(MODEL))
    for start in range(0, len(answered), 5_000):
        part = answered[start : start + 5_000]
        logged.update(log.lookup(part, columns=["prediction_id"])["prediction_id"].to_pylist())
    labels = ledger.feedback_labels(MODEL, list(acknowledged))
    return {
        "predictions": len(answered),
        "predictions_lost": len(set(answered) - logged),
        "feedback": len(acknowledged),
        "feedback_lost": sum(labels.get(name) != label for name, label in acknowledged.items()),
    }
