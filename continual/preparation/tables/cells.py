"""A cell of any kind as text."""

import math
from datetime import date, datetime, time
from decimal import Decimal

__all__ = ["WrongCell", "as_text", "failed_formula"]

_FAILED = frozenset(  # what Excel puts where a formula failed; it names some of them in its user's language
    (
        *("#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A", "#GETTING_DATA", "#SPILL!", "#CALC!"),
        *("#BEZUG!", "#WERT!", "#ZAHL!", "#VALEUR!", "#NOM?", "#NOMBRE!", "#VALORE!", "#RIF!", "#NOME?"),
        *("#¿NOMBRE?", "#¡VALOR!", "#¡REF!", "#¡DIV/0!", "#¡NUM!", "#VALOR!"),
    )
)
_FAILED_IN_SHEETS = frozenset(("#NV", "#N/D"))  # elsewhere a class may be called so


class WrongCell(Exception):
    """A cell holds what is no text; the message says what."""


def failed_formula(value: object, *, sheet: bool) -> bool:
    """Whether a cell, of a `sheet` or of a text, holds nothing but the error of a formula.

    >>> failed_formula("#N/A", sheet=False), failed_formula("#N/A is shown in my cell", sheet=True)
    (True, False)
    >>> failed_formula("#NV", sheet=True), failed_formula("#NV", sheet=False)
    (True, False)
    """
    return isinstance(value, str) and (value.strip() in _FAILED or (sheet and value.strip() in _FAILED_IN_SHEETS))


def as_text(value: object) -> str:
    """The cell as a CSV file would write it, without outer spaces; nothing, and what is no number, is empty.

    Raises:
        WrongCell: it is a list, an object, an infinite number, or bytes that are no text.

    >>> as_text(3.0), as_text(True), as_text(None), as_text(" a ")
    ('3', 'true', '', 'a')
    """
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        if math.isinf(value):
            raise WrongCell("an infinite number")
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, datetime) and value.tzinfo is None and value.time() == time():  # workbooks have no bare dates
        return value.date().isoformat()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise WrongCell("bytes that are no UTF-8 text") from error
    raise WrongCell({"list": "a list", "dict": "an object"}.get(type(value).__name__, type(value).__name__))
