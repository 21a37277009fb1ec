"""The rule by which attributes of people come in: only those that the settings declare, each in one form."""

from collections.abc import Collection, Mapping
from typing import Any

from perennial.continual.errors import DataError
from perennial.continual.preparation.entrance import admit_label, admit_name, shown

__all__ = ["admit_attributes", "check_attribute_names"]

_TAKEN = frozenset(
    {"at", "image", "item", "key", "label", "origin", "prediction_id", "redacted", "text", "user", "verdict"}
)
_VALUE_CHARACTERS = 60


def check_attribute_names(names: Collection[str]) -> None:
    """Return where these names can be columns beside those that rows have anyway.

    Raises:
        DataError: one of them cannot.

    >>> check_attribute_names(["region"])
    """
    for name in names:
        if admit_name(name, field="attribute") in _TAKEN or name != name.lower():
            raise DataError(
                f"attribute {shown(name)} is not allowed; use a name in lower case that no column of rows has "
                f"({', '.join(sorted(_TAKEN))})"
            )
    if len(set(names)) != len(names):
        raise DataError(f"attributes {', '.join(names)} name one twice; name each once")


def admit_attributes(given: object, declared: Collection[str]) -> dict[str, str]:
    r"""What a row says of its person, as it may be kept; a blank value says nothing.

    Raises:
        DataError: it is no mapping, an attribute is not declared, or a value is no short plain text.

    >>> admit_attributes({"region": " north\u200b "}, ["region"]), admit_attributes({"region": ""}, ["region"])
    ({'region': 'north'}, {})
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise DataError(f"attributes are {shown(given)}; send an object such as {{'region': 'north'}}")
    return {str(name): value for name, raw in given.items() if (value := _admitted(name, raw, declared))}


def _admitted(name: Any, raw: object, declared: Collection[str]) -> str:
    if name not in declared:
        known = ", ".join(declared) or "none"
        raise DataError(
            f"attribute {shown(name)} is not declared, and nothing of a person is kept undeclared; declared are "
            f"{known} (fairness.attributes)"
        )
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        return ""
    value = admit_label(raw, field=f"attribute {name}")
    if len(value) > _VALUE_CHARACTERS:
        raise DataError(
            f"attribute {name} {shown(value)} has {len(value)} characters; at most {_VALUE_CHARACTERS} are allowed"
        )
    return value
