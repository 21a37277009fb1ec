"""A bundle's tokenizer, read once for all versions that have the same file."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Frame", "SharedTokenizer"]

_MOST_KNOWN = 4  # of a process: as many encoders as its versions have, with some to spare


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The ids that stand before and behind each text, and all others, ascending."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    words: tuple[int, ...]


class SharedTokenizer:
    """A tokenizer that truncates as its file says, never pads, and that nobody changes."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self.tokenizer = tokenizer

    @classmethod
    def read(cls, path: Path) -> "SharedTokenizer":
        """The tokenizer of a file; the same object for files that hold the same."""
        from tokenizers import Tokenizer

        content = path.read_bytes()
        name = hashlib.blake2b(content).digest()
        if (known := _known.get(name)) is not None:
            return known
        tokenizer = Tokenizer.from_buffer(content)
        tokenizer.no_padding()
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[name] = shared = cls(tokenizer)
        return shared

    @cached_property
    def ids(self) -> int:
        """How many token ids it knows; the first asking takes long."""
        ids: dict[str, int] = self.tokenizer.get_vocab()
        return 1 + max(ids.values())

    @cached_property
    def frame(self) -> Frame:
        """What it puts around a text (`[CLS]` ... `[SEP]`); the first asking takes long."""
        framed = self.tokenizer.encode("a")
        marks, ids = list(framed.special_tokens_mask), list(framed.ids)
        first = marks.index(0) if 0 in marks else len(marks)
        last = len(marks) - (marks[::-1].index(0) if 0 in marks else 0)
        prefix, suffix = tuple(ids[:first]), tuple(ids[last:])
        special = {*self.tokenizer.get_added_tokens_decoder(), *prefix, *suffix}
        words = sorted(set(self.tokenizer.get_vocab().values()) - special)
        return Frame(prefix=prefix, suffix=suffix, words=tuple(words))


_known: dict[bytes, SharedTokenizer] = {}  # by what their files hold
