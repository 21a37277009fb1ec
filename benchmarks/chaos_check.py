"""What the chaos benchmark looks at: the journal, whether all is as the ledger says, and what was lost."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos_world import MODEL
from continual.errors import PerennialError
from ops.ledger import Ledger, VersionState
from ops.traffic import TrafficLog
from ops.workspace import Workspace

__all__ = ["ASKED", "Entry", "Journal", "champion_wrong", "command_lost", "lost"]

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


def command_lost(ledger: Ledger, told: Mapping[str, Any]) -> str:
    """What became of a command that was acknowledged with `told`, where it was lost; empty when it was carried out.

    A command to a cycle names its number; a rollback answers with the route as it became.
    """
    if "command" in told:
        row = ledger.command(int(told["command"]))
        return "" if row.finished_at is not None else f"command {row.id} ({row.kind}) was never carried out"
    route = ledger.route(MODEL)
    reached = 0 if route is None else route.epoch
    return "" if reached >= int(told["epoch"]) else f"the route is at epoch {reached}, {told['epoch']} was promised"


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
