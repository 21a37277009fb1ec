"""Which of the latest headlines a new one is a copy of: syndicated copies are one voice, and not news."""

from collections import defaultdict, deque
from math import ceil

from perennial.continual.events.item import Item

__all__ = ["Originals"]

_LEAST_TOKENS = 4  # fewer are too few to tell


class Originals:
    """The tokens of the latest originals, looked through for near copies.

    >>> from datetime import datetime, UTC
    >>> known = Originals()
    >>> known.add(Item(number=1, at=datetime.now(UTC), source="a", words=frozenset(), tokens=frozenset("abcdef")))
    >>> known.of(frozenset("abcdex")), known.of(frozenset("abcdefg"))
    (None, 1)
    """

    def __init__(self, *, kept: int = 500, overlap: float = 0.8) -> None:
        self._most, self._overlap = kept, overlap
        self._kept: deque[Item] = deque()
        self._with: defaultdict[str, dict[int, Item]] = defaultdict(dict)  # by token, those that have it by number

    def add(self, item: Item) -> None:
        """Remember an original."""
        self._kept.append(item)
        for token in item.tokens:
            self._with[token][item.number] = item
        if len(self._kept) > self._most:
            oldest = self._kept.popleft()
            for token in oldest.tokens:
                del self._with[token][oldest.number]
                if not self._with[token]:
                    del self._with[token]

    def of(self, tokens: frozenset[str]) -> int | None:
        """The number of the latest original that shares so much of all tokens with these; None where none does."""
        overlap = 1.0 if len(tokens) < _LEAST_TOKENS else self._overlap
        held = sorted((len(self._with[token]) if token in self._with else 0, token) for token in tokens)
        # a copy lacks too few tokens to lack all of the rarest
        rarest = [token for _, token in held[: len(tokens) - ceil(overlap * len(tokens)) + 1]]
        candidates = {
            number: item for token in rarest if token in self._with for number, item in self._with[token].items()
        }
        for number in sorted(candidates, reverse=True):
            shared = len(tokens & candidates[number].tokens)
            if shared >= overlap * (len(tokens) + len(candidates[number].tokens) - shared):
                return number
        return None
