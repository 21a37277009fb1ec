"""What is kept of a model's rows for how long, whether it is served, broken or removed."""

import logging
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta

from perennial.ops.cycle.waiting import utc_now
from perennial.ops.ledger.answers import KEPT
from perennial.ops.making.retention import prune_runs
from perennial.ops.parts import Parts
from perennial.ops.store.pictures import sweep_pictures
from perennial.ops.traffic import TrafficLog

__all__ = ["Housekeeping"]

logger = logging.getLogger(__name__)
_RUNS_KEPT = timedelta(days=2)
_HISTORY_KEPT = 200  # cycles, commands and drift reports that the ledger keeps whatever their age


class Housekeeping:
    """The work on one model's rows that asks for none of its settings; ages count from `deletes_by`."""

    def __init__(
        self, parts: Parts, model: str, traffic: TrafficLog, deletes_by: Callable[[], datetime] = utc_now
    ) -> None:
        self._parts, self.model, self._traffic, self._deletes_by = parts, model, traffic, deletes_by

    def compact(self) -> str:
        """Turn sealed traffic segments into Parquet."""
        rows = self._traffic.compact()
        return f"{rows} rows" if rows else ""

    def retain(self) -> str:
        """Forget traffic, work folders and the ledger's history beyond what the workspace keeps."""
        now, keep = self._deletes_by(), timedelta(days=self._parts.settings.traffic.retention_days)
        ledger = self._parts.ledger
        ledger.forget_runs(now - _RUNS_KEPT)
        ledger.forget_answers(now - KEPT)
        forgotten, history = ledger.forget_history(self.model, now - keep, keep=_HISTORY_KEPT), 0
        while rows := forgotten.journal + forgotten.commands + forgotten.drift_reports:  # in steps: others write too
            history += rows
            forgotten = ledger.forget_history(self.model, now - keep, keep=_HISTORY_KEPT)
        while rows := ledger.forget_feedback(self.model, now - keep):  # labels of requests that are gone from the log
            history += rows
        ledger.forget_notices(self.model, now - keep)
        pruned = self._traffic.prune(now - keep)
        pictures = sweep_pictures(ledger, self._parts.workspace, self.model)
        runs = prune_runs(ledger, self._parts.workspace, self.model, now=now, keep=keep)
        return f"{pruned} traffic rows, {history} rows of history, work folders {list(runs)}" + (
            f", {pictures} pictures" if pictures else ""
        )

    def retain_unserved(self) -> str:
        """`retain` for a model that nobody watches: of its reports, which quote traffic, the old ones go as well."""
        retained = self.retain()
        oldest = self._deletes_by() - timedelta(days=self._parts.settings.traffic.retention_days)
        folder = self._parts.workspace.reports(self.model) / "evidently"
        old = [path for path in folder.glob("*") if path.lstat().st_mtime < oldest.timestamp()]
        for path in old:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        return f"{retained}, {len(old)} files of reports"
