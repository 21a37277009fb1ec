"""Which models the control API answers for."""

from perennial.continual.errors import DataError, NotFound
from perennial.continual.preparation import shown
from perennial.ops.api.auth import check
from perennial.ops.ledger import Ledger
from perennial.ops.safety.roles import Caller, Role
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


def known_or_only(ledger: Ledger, model: str | None, caller: Caller, needed: Role) -> str:
    """Return the model of a body that its caller may name; without a name the only one that there is for the caller.

    Raises:
        HTTPException: 403, the caller's role for it is too low.
        NotFound: there is no such model; DataError: none is named, and there are several, or none.
    """
    if model is not None:
        check(caller, needed, model)
        check_known(ledger, model)
        return model
    known = [name for name in known_models(ledger) if caller.may(needed, name)]
    if len(known) != 1:
        raise DataError(
            f'model is not given and there are {len(known)}; add "model": one of {", ".join(known) or "none"}'
        )
    return known[0]
