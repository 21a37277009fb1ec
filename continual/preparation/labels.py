"""The labels that a model knows, so that no twin of one starts a class of its own."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from perennial.continual.errors import DataError
from perennial.continual.preparation.characters import without_hidden
from perennial.continual.preparation.entrance import admit_label, shown

__all__ = ["KnownLabels"]

_WHOLE = re.compile(r"^([+-]?\d+)\.0+$")


class KnownLabels:
    r"""Admits labels one after the other: known ones, their twins under the known name, and new ones.

    Twins that no reader can tell apart (NFC and NFD, zero-width characters, spaces) are the same label. So is a whole
    number as programs write it beside an empty cell: 1.0 beside 1. One that differs from a known label only in case,
    width or compatibility forms is refused, for it is likely a slip.

    >>> known = KnownLabels(["Refund"])
    >>> known.admit("Re\u200bfund "), known.admit("fee")
    ('Refund', 'fee')
    >>> known.admit("REFUND")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    perennial.continual.errors.DataError: label 'REFUND' differs from the known 'Refund' ...; send 'Refund'
    """

    def __init__(self, labels: Iterable[str] = ()) -> None:
        self._exact: set[str] = set()
        self._same: dict[str, str] = {}
        self._near: dict[str, str] = {}
        for label in labels:
            self._keep(label)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._exact))

    def __contains__(self, label: str) -> bool:
        return label in self._exact

    def admit(self, label: object, *, field: str = "label") -> str:
        """The label under its known name; a new one is known from now on.

        Raises:
            DataError: it breaks the rule of labels, or is almost a known one.
        """
        if isinstance(label, str) and label in self._exact:
            return label
        written = admit_label(label, field=field)
        known = self._same.get(written)
        if known is not None:
            return known
        near = self._near.get(_outline(written))
        if near is not None and _whole(near) == _whole(written):
            return near
        if near is not None:
            known_as = shown(near)
            raise DataError(
                f"{field} {shown(written)} differs from the known {known_as} only in case or form; send {known_as}"
            )
        self._keep(written)
        return written

    def settle(self, label: str) -> str:
        """The label of a row that was acknowledged before its twin was known: it joins the twin, and is not lost.

        Raises:
            DataError: it breaks the rule of labels.
        """
        near = None if label in self._exact else self._near.get(_outline(admit_label(label)))
        return near or self.admit(label)

    def _keep(self, label: str) -> None:
        try:
            form = admit_label(label)
        except DataError:  # kept before there was a rule: known under its own spelling alone
            form = label
        self._exact.add(label)
        self._same.setdefault(form, label)
        self._near.setdefault(_outline(form), label)


def _outline(label: str) -> str:
    """What is left of a label when case, width, compatibility forms, all joiners and a fraction of 0 are forgotten."""
    folded = unicodedata.normalize("NFKC", without_hidden(label, joiners=False)).casefold()
    outline = " ".join(unicodedata.normalize("NFKC", without_hidden(folded, joiners=False)).split())
    return _whole(outline)


def _whole(label: str) -> str:
    return _WHOLE.sub(r"\1", label)
