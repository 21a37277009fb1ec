"""Token rows that belong to nobody: what a bundle's known answers are asked about."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perennial.exporters.text_classification.shared_tokenizer import SharedTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["golden_rows"]

_NAMED, _DRAWN = 4, 4
_LONGEST = 64  # tokens; a probe is one request with all rows, and must stay cheap beside traffic


def golden_rows(tokenizer: Path, labels: Sequence[str], *, max_length: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Eight rows made from class names and from token ids drawn by chance, the same for the same arguments.

    No text that anybody sent is in them, so that no erasure ever touches them. Lengths run from a single word to the
    longest row that a probe may hold; each row stands in the tokenizer's own frame (`[CLS]` ... `[SEP]`).
    """
    shared = SharedTokenizer.read(tokenizer)
    frame = shared.frame
    room = max(1, min(max_length, _LONGEST) - len(frame.prefix) - len(frame.suffix))
    rng = np.random.default_rng(seed)
    inner = [_named(shared.tokenizer, labels, row)[:room] for row in range(_NAMED)]
    lengths = np.geomspace(1, room, _DRAWN).round().astype(int)
    inner += [[frame.words[place] for place in rng.integers(len(frame.words), size=length)] for length in lengths]
    return tuple((*frame.prefix, *row, *frame.suffix) for row in inner if row)


def _named(reader: "Tokenizer", labels: Sequence[str], row: int) -> list[int]:
    """The names of one to four classes, as words."""
    step = max(1, len(labels) // _NAMED)
    names = [labels[(row * step + place) % len(labels)] for place in range(row + 1)]
    text = " ".join(names).replace("_", " ")
    return list(reader.encode(text, add_special_tokens=False).ids)
