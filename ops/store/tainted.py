"""Encoders that were tuned on rows erased since: remembered until no version on disk uses them any more."""

from collections.abc import Collection

from perennial.ops.ledger import Ledger

__all__ = ["forget_tainted", "taint", "tainted_encoders"]

_STATE = "tainted_encoders"


def tainted_encoders(ledger: Ledger, model: str) -> frozenset[str]:
    """Fingerprints of the encoders that no training may go on from."""
    return frozenset(ledger.get_state(model, _STATE) or ())


def taint(ledger: Ledger, model: str, encoders: Collection[str]) -> None:
    """Remember encoders that were tuned on erased rows. A retry changes nothing."""
    if not encoders:
        return
    with ledger.transaction():
        ledger.put_state(model, _STATE, sorted(tainted_encoders(ledger, model) | set(encoders)))


def forget_tainted(ledger: Ledger, model: str) -> None:
    """No version uses one any more."""
    ledger.put_state(model, _STATE, [])
