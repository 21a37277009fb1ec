"""Where the header of a table stands: under a title or remarks, which people and programs write above it."""

from collections.abc import Sequence

from perennial.continual.errors import DataError
from perennial.continual.preparation.tables.columns import bare

__all__ = ["LOOKED_AT", "check_header", "header_place", "known_in"]

LOOKED_AT = 20  # rows in which a header is looked for
_ENOUGH = 2  # known names by which a row is a header for sure
_REMARK = "#"


def known_in(row: Sequence[str], known: frozenset[str]) -> int:
    """How many known names of columns a row holds."""
    return len({bare(name).casefold() for name in row} & known)


def header_place(rows: Sequence[Sequence[str]], known: frozenset[str]) -> int:
    """The place of the header: the first row, or one with known names where all above are titles and remarks.

    A title fills one cell, and a remark begins with `#`. Anything else above a header may be a row that counts.

    >>> names = frozenset(["text", "label"])
    >>> header_place([["My requests", ""], ["text", "label"]], names)
    1
    >>> header_place([["my card", "loss"], ["text", "label"]], names)
    0
    """
    for place, row in enumerate(rows[:LOOKED_AT]):
        if _is_header(row, known):
            return place
        filled = [cell for cell in row if cell.strip()]
        is_above = len(filled) < _ENOUGH or filled[0].lstrip().startswith(_REMARK)
        if not is_above or (place == 0 and known_in(row, known)):
            return 0
    return 0


def check_header(
    rows: Sequence[tuple[int, Sequence[str]]], place: int, known: frozenset[str], source: str, unit: str
) -> None:
    """See to it that no row with its number, of the first ones, looks more like the header than the one at `place`.

    Raises:
        DataError: one does; it stands under rows that are neither titles nor remarks.
    """
    if known_in(rows[place][1], known):
        return
    for number, row in rows[place + 1 : LOOKED_AT]:
        if _is_header(row, known):
            raise DataError(
                f"{source} {unit} {number} looks like the header, but {unit} {rows[place][0]} holds other cells; take "
                f"away what stands above the header, or put those rows under it"
            )


def _is_header(row: Sequence[str], known: frozenset[str]) -> bool:
    return known_in(row, known) >= min(_ENOUGH, len(known))
