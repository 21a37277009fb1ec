"""Whether somebody took a model out of the workspace; its rows stay, and nobody answers by it."""

from perennial.ops.ledger.ports import State
from perennial.ops.store.state import REMOVED

__all__ = ["is_removed", "note_return"]


def is_removed(ledger: State, model: str) -> bool:
    """Whether somebody removed the model, and it has not come back."""
    return REMOVED.read(ledger, model) is not None


def note_return(ledger: State, model: str) -> None:
    """The model is named again."""
    if is_removed(ledger, model):
        REMOVED.keep(ledger, model, None)
