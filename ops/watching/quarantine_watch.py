"""Puts each damaged file of a traffic log that was set aside into the audit log, once, from where people are told."""

from typing import Protocol

from perennial.ops.ledger.ports import Audit, State
from perennial.ops.store.state import QUARANTINED_FILES
from perennial.ops.traffic import TrafficLog

__all__ = ["QUARANTINED", "note_quarantined"]

QUARANTINED = "traffic.quarantined"  # the audit entry's action
_CAUSE_CHARACTERS = 300


class QuarantineLedger(Audit, State, Protocol):
    """Where damage is told, and what of it was told already."""


def note_quarantined(ledger: QuarantineLedger, model: str, traffic: TrafficLog) -> int:
    """Write an entry for each file that has none yet; returns how many. A killed call repeats none of them."""
    noted = QUARANTINED_FILES.read(ledger, model) or frozenset()
    present = {f"{file.name} {file.at}": file for file in traffic.quarantined()}
    if present.keys() == noted:
        return 0
    fresh = [file for name, file in present.items() if name not in noted]
    with ledger.transaction():
        for file in fresh:
            detail = {
                "file": file.name,
                "source": file.source,
                "cause": file.cause[:_CAUSE_CHARACTERS],
                "size_bytes": file.size_bytes,
                "rows_stay": file.copied,
            }
            ledger.audit("loop", QUARANTINED, model, detail)
        QUARANTINED_FILES.keep(ledger, model, frozenset(present))
    return len(fresh)
