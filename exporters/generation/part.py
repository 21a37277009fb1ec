"""What a manifest says of a decoder beside what it says of every bundle, and whether the files agree."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perennial.continual.errors import BundleRejected, DataError
from perennial.continual.learning.generation.prompt import PROMPT_FILE, Prompt
from perennial.exporters.generation.signature import REWRITE_ENGINE, TOP
from perennial.exporters.signature import EngineSignature
from perennial.exporters.tasks import read_part

__all__ = ["TOKENIZER_FILE", "GenerationPart", "check_decoder"]

TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationPart:
    """The decoder's sizes, how many tokens it can look at, and whether it is guided while it writes."""

    vocabulary: int
    layers: int
    heads: int  # of keys and values
    width: int  # of one of them
    positions: int
    guided: bool

    def __post_init__(self) -> None:
        sizes = (self.vocabulary - TOP, self.layers, self.heads, self.width, self.positions)
        if min(sizes) < 1:
            raise BundleRejected(f"a decoder with {asdict(self)} is none; export the version again")

    @classmethod
    def read(cls, part: Mapping[str, Any]) -> "GenerationPart":
        """What a decoder's manifest holds as `part`.

        Raises:
            BundleRejected: a field is missing, surplus or of the wrong kind.
        """
        return read_part(cls, part)

    @property
    def signature(self) -> EngineSignature:
        """The engine's, whatever the decoder."""
        return REWRITE_ENGINE

    def fields(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return asdict(self)


def check_decoder(folder: Path, part: Mapping[str, Any], files: Collection[str]) -> None:
    """See that tokenizer and prompt are there.

    Raises:
        BundleRejected: one is missing, or the prompt is none.
    """
    GenerationPart.read(part)
    if missing := [name for name in (TOKENIZER_FILE, PROMPT_FILE) if name not in files]:
        raise BundleRejected(f"{folder}: the manifest names no {missing[0]}; export the version again")
    try:
        Prompt.read(folder)
    except DataError as exc:
        raise BundleRejected(f"{folder}: {exc}") from exc
