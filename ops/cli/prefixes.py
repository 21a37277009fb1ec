"""An id by as many of its first characters as tell it from all others."""

from collections.abc import Iterable

__all__ = ["completed"]

_SHOWN = 5


def completed(given: str, ids: Iterable[str], *, what: str, listed_by: str) -> str:
    """The one id that is meant.

    Args:
        given: an id, or how it begins.
        ids: those there are.
        what: the noun of an id, for messages.
        listed_by: the command that shows ids.

    Raises:
        NotFound: none begins so.
        InputError: several do.

    >>> completed("ca", ["card", "loan"], what="reply", listed_by="perennial reply list")
    'card'
    """
    from perennial.continual.errors import InputError, NotFound

    found = sorted({name for name in ids if name.startswith(given)})
    if given in found or len(found) == 1:
        return given if given in found else found[0]
    if not found:
        raise NotFound(f"no {what} begins with {given!r}; `{listed_by}` shows the ids")
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise InputError(
        f"{len(found)} of them begin with {given!r}: {', '.join(found[:_SHOWN])}{more}; give more of the {what}'s id"
    )
