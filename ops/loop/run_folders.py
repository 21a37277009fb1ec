"""What stays of the work folders of trainings and exports once nobody works in them any more."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

from ops.ledger import Ledger, VersionState
from ops.loop.runner import decode
from ops.workspace import Workspace

__all__ = ["prune_runs"]

_IN_USE = timedelta(days=1)  # since the last file was written; a command in another process may work there
_UNFINISHED = (VersionState.TRAINING, VersionState.EXPORTED)
_KEPT = ("decision.json", "export.result.json", "shadow.report.json")  # and the logs, which error messages point to


def prune_runs(ledger: Ledger, workspace: Workspace, model: str, *, now: datetime, keep: timedelta) -> tuple[int, ...]:
    """Remove what nobody reads any more of a model's work folders; return the versions whose folder went whole.

    A folder's trained state and rows serve its own cycle: a killed training, export or judgement goes on with them, so
    the cycle under way and versions not yet published keep everything. Afterwards nothing reads them, not even for the
    champion: the next training, an export for another engine and the correction after an erasure start from the
    bundle, which holds encoder, head and sums. So a day after its last file was written, a finished version's folder
    keeps its logs and reports alone; it goes whole with its bundle, or after `keep`: a shadow report quotes traffic.
    """
    cycle = ledger.active_cycle(model)
    at_work = None if cycle is None else decode(cycle.payload).challenger
    rows = {row.version: row for row in ledger.versions(model)}
    gone = []
    for folder in _folders(workspace, model):
        number = int(folder.name)
        row, age = rows.get(number), now.timestamp() - _written(folder)
        if number == at_work or age < _IN_USE.total_seconds():
            continue
        bundle_gone = row is not None and row.published_at is not None and not workspace.bundle(model, number).is_dir()
        if bundle_gone or age > keep.total_seconds():
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(number)
        elif row is None or row.state not in _UNFINISHED:
            _keep_reports(folder)
    return tuple(gone)


def _folders(workspace: Workspace, model: str) -> list[Path]:
    parent = workspace.run(model, 1).parent
    found = [path for path in parent.iterdir() if path.name.isdigit()] if parent.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def _written(folder: Path) -> float:
    """When a file in it was written last, in seconds of unix time; 0 for an empty one."""
    return max((path.stat().st_mtime for path in folder.rglob("*") if path.is_file()), default=0.0)


def _keep_reports(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix != ".log" and path.name not in _KEPT:
            path.unlink(missing_ok=True)
