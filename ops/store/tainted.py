"""Encoders that were tuned on rows erased since: remembered until no version on disk uses them any more."""

from collections.abc import Collection

from perennial.ops.ledger.ports import State
from perennial.ops.store.state import TAINTED

__all__ = ["forget_tainted", "taint", "tainted_encoders"]


def tainted_encoders(ledger: State, model: str) -> frozenset[str]:
    """Fingerprints of the encoders that no training may go on from."""
    return TAINTED.read(ledger, model) or frozenset()


def taint(ledger: State, model: str, encoders: Collection[str]) -> None:
    """Remember encoders that were tuned on erased rows. A retry changes nothing."""
    if not encoders:
        return
    with ledger.transaction():
        TAINTED.keep(ledger, model, tainted_encoders(ledger, model) | frozenset(encoders))


def forget_tainted(ledger: State, model: str) -> None:
    """No version uses one any more."""
    TAINTED.keep(ledger, model, frozenset())
