"""Which models the control API answers for."""

from perennial.continual.errors import NotFound
from perennial.continual.preparation import shown
from perennial.ops.ledger import Ledger

__all__ = ["check_known"]


def check_known(ledger: Ledger, model: str) -> None:
    """Return when the ledger knows the model.

    Raises:
        NotFound: it does not.
    """
    known = [row.name for row in ledger.models()]
    if model not in known:
        raise NotFound(f"model {shown(model)} is not known; there are {', '.join(known) or 'none'}")
