"""Token rows that belong to nobody: what a bundle's known answers are asked about."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
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
    reader = _reader(tokenizer.read_bytes())
    room = max(1, min(max_length, _LONGEST) - len(reader.prefix) - len(reader.suffix))
    rng = np.random.default_rng(seed)
    inner = [_named(reader.tokenizer, labels, row)[:room] for row in range(_NAMED)]
    lengths = np.geomspace(1, room, _DRAWN).round().astype(int)
    inner += [[reader.words[place] for place in rng.integers(len(reader.words), size=length)] for length in lengths]
    return tuple((*reader.prefix, *row, *reader.suffix) for row in inner if row)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """A tokenizer, the ids of its frame, and all others, ascending."""

    tokenizer: "Tokenizer"
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    words: tuple[int, ...]


@lru_cache(maxsize=2)  # reading one and asking what it knows takes longer than all that is made of it
def _reader(file: bytes) -> _Reader:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(file)
    framed = tokenizer.encode("a")
    marks, ids = list(framed.special_tokens_mask), list(framed.ids)
    first = marks.index(0) if 0 in marks else len(marks)
    last = len(marks) - (marks[::-1].index(0) if 0 in marks else 0)
    prefix, suffix = tuple(ids[:first]), tuple(ids[last:])
    special = {*tokenizer.get_added_tokens_decoder(), *prefix, *suffix}
    words = sorted(set(tokenizer.get_vocab().values()) - special)
    return _Reader(tokenizer=tokenizer, prefix=prefix, suffix=suffix, words=tuple(words))


def _named(reader: "Tokenizer", labels: Sequence[str], row: int) -> list[int]:
    """The names of one to four classes, as words."""
    step = max(1, len(labels) // _NAMED)
    names = [labels[(row * step + place) % len(labels)] for place in range(row + 1)]
    text = " ".join(names).replace("_", " ")
    return list(reader.encode(text, add_special_tokens=False).ids)
