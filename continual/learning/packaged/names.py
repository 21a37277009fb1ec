"""Names of packaged encoders: `packaged:minilm`, `packaged:e5` and that cut to scripts, and one of images."""

from collections.abc import Iterable

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.packaged.scripts import SCRIPTS

__all__ = ["PACKAGED_E5", "PACKAGED_LITE0", "PACKAGED_MINILM", "e5_named", "is_packaged", "scripts_named"]

PACKAGED_MINILM = "packaged:minilm"
PACKAGED_E5 = "packaged:e5"
PACKAGED_LITE0 = "packaged:efficientnet-lite0"

_PACKAGED, _BETWEEN = "packaged:", "+"


def is_packaged(name: str) -> bool:
    """Whether the name is one of a packaged encoder."""
    return name.startswith(_PACKAGED)


def e5_named(scripts: Iterable[str]) -> str:
    """The name of the multilingual encoder with the words of these scripts; the whole of it where none is named.

    >>> e5_named(["latin", "han"]), e5_named([])
    ('packaged:e5:han+latin', 'packaged:e5')
    """
    kept = sorted(set(scripts))
    return f"{PACKAGED_E5}:{_BETWEEN.join(kept)}" if kept else PACKAGED_E5


def scripts_named(name: str) -> tuple[str, ...] | None:
    """The scripts in a name of the multilingual encoder, sorted, none for the whole of it; None for the others.

    Raises:
        ConfigurationError: no packaged encoder is called so.
    """
    if name in {PACKAGED_MINILM, PACKAGED_LITE0}:
        return None
    base, colon, listed = name.removeprefix(_PACKAGED).partition(":")
    scripts = tuple(sorted(set(listed.split(_BETWEEN)))) if colon else ()
    if base != PACKAGED_E5.removeprefix(_PACKAGED):
        raise ConfigurationError(
            f"encoder {name!r} is not packaged; packaged are {PACKAGED_MINILM!r}, {PACKAGED_E5!r} for any language, "
            f"and {PACKAGED_LITE0!r} for images"
        )
    if unknown := sorted(set(scripts) - set(SCRIPTS)):
        raise ConfigurationError(
            f"encoder {name!r} names the scripts {unknown}; known are {', '.join(SCRIPTS)}. "
            f"Write for example {e5_named(['han', 'latin'])!r}"
        )
    return scripts
