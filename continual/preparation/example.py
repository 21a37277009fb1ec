"""The one place where an example is made out of what came from outside."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from perennial.continual.preparation.entrance import TEXT_BYTES, admit_key, admit_text
from perennial.continual.preparation.labels import KnownLabels
from perennial.continual.preparation.text import fold_width
from perennial.continual.records import Example, Origin

__all__ = ["admit_example"]

_NONE: Mapping[str, str] = MappingProxyType({})


def admit_example(
    *,
    text: object,
    label: object,
    at: datetime,
    origin: Origin,
    known: KnownLabels,
    key: object = None,
    prediction_id: str | None = None,
    redacted: bool = False,
    most_bytes: int = TEXT_BYTES,
    attributes: Mapping[str, str] = _NONE,
) -> Example:
    """An example whose text is cleaned and without personal data, and whose label is a known one or a new one.

    Its letters and digits of full width are folded, as versions read them; before personal data is looked for.
    `at` has passed `admit_time`, `attributes` `admit_attributes`; `redacted` tells that the text was redacted before
    it came here.

    Raises:
        DataError: a field breaks its rule; the message names the field.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    >>> known = KnownLabels()
    >>> example = admit_example(text=" jo@example.org  asks", label="fee", at=noon, origin=Origin.IMPORT, known=known)
    >>> example.text, example.redacted
    ('[email] asks', True)
    """
    read = fold_width(text) if isinstance(text, str) else text
    admitted, kept_key = admit_text(read, most_bytes=most_bytes), admit_key(key)  # a refused row makes no label known
    return Example(
        text=admitted.text,
        label=known.admit(label),
        at=at,
        origin=origin,
        key=kept_key,
        prediction_id=prediction_id,
        redacted=redacted or admitted.redacted,
        attributes=dict(attributes),
    )
