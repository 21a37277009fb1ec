"""Which models the control API answers for."""

from perennial.continual.errors import DataError, NotFound
from perennial.continual.preparation import shown
from perennial.ops.ledger import Ledger
from perennial.ops.views.overview import known_models

__all__ = ["check_known", "known_or_only"]


def check_known(ledger: Ledger, model: str) -> None:
    """Return when the ledger knows the model.

    Raises:
        NotFound: it does not.
    """
    known = [row.name for row in ledger.models()]
    if model not in known:
        raise NotFound(f"model {shown(model)} is not known; there are {', '.join(known) or 'none'}")


def known_or_only(ledger: Ledger, model: str | None) -> str:
    """Return the model where the ledger knows it; without a name the only one there is.

    Raises:
        NotFound: there is no such model; DataError: none is named, and there are several, or none.
    """
    if model is not None:
        check_known(ledger, model)
        return model
    known = known_models(ledger)
    if len(known) != 1:
        raise DataError(
            f'model is not given and there are {len(known)}; add "model": one of {", ".join(known) or "none"}'
        )
    return known[0]
