"""Token rows that belong to nobody: what a bundle's known answers are asked about."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

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
    from tokenizers import Tokenizer

    reader = Tokenizer.from_file(str(tokenizer))
    longest = min(max_length, _LONGEST)
    framed = reader.encode("a")
    marks, ids = list(framed.special_tokens_mask), list(framed.ids)
    first = marks.index(0) if 0 in marks else len(marks)
    last = len(marks) - (marks[::-1].index(0) if 0 in marks else 0)
    prefix, suffix = ids[:first], ids[last:]
    room = max(1, longest - len(prefix) - len(suffix))
    special = {*reader.get_added_tokens_decoder(), *prefix, *suffix}
    words = sorted(set(reader.get_vocab().values()) - special)
    rng = np.random.default_rng(seed)
    inner = [_named(reader, labels, row)[:room] for row in range(_NAMED)]
    lengths = np.geomspace(1, room, _DRAWN).round().astype(int)
    inner += [[words[place] for place in rng.integers(len(words), size=length)] for length in lengths]
    return tuple((*prefix, *row, *suffix) for row in inner if row)


def _named(reader: "Tokenizer", labels: Sequence[str], row: int) -> list[int]:
    """The names of one to four classes, as words."""
    step = max(1, len(labels) // _NAMED)
    names = [labels[(row * step + place) % len(labels)] for place in range(row + 1)]
    text = " ".join(names).replace("_", " ")
    return list(reader.encode(text, add_special_tokens=False).ids)
