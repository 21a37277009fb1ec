"""Values as the tensors of a request, and the tensors of an answer as values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BadInput

__all__ = ["KEY", "PREDICTION_ID", "VERSION", "Array", "column", "given_texts", "strings", "texts_of"]

Array = npt.NDArray[Any]
KEY, VERSION, PREDICTION_ID = "KEY", "VERSION", "PREDICTION_ID"  # what every model has beside its task's own tensors


def strings(name: str, values: Sequence[str]) -> Array:
    """One string a row (rows, 1), as UTF-8.

    Raises:
        BadInput: one is none that UTF-8 can hold; the message names the row of the tensor `name`.
    """
    return np.array([[_encoded(name, row, value)] for row, value in enumerate(values)], dtype=object)


def given_texts(columns: Mapping[str, Sequence[str]]) -> dict[str, Array]:
    """The columns in which any row says something, as tensors."""
    return {name: strings(name, values) for name, values in columns.items() if any(values)}


def column(outputs: Mapping[str, Array], name: str) -> list[Any]:
    """The one value of each row."""
    values: list[Any] = outputs[name][:, 0].tolist()
    return values


def texts_of(outputs: Mapping[str, Array], name: str, row: int, count: int) -> tuple[str, ...]:
    """The first strings of a row."""
    return tuple(value.decode() for value in outputs[name][row][:count])


def _encoded(name: str, row: int, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as exc:
        half = f"U+{ord(value[exc.start]):04X}"
        raise BadInput(
            f"{name} of row {row}: character {exc.start} is {half}, half of a surrogate pair; send UTF-8 text"
        ) from exc
