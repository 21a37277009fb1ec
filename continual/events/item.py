"""One headline as the watch of events sees it."""

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt

__all__ = ["Item", "Place"]

Place = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """`number` is its place in the order of arrival; `place` is where its text lies among others, by `encoder`.

    `tone` says how good its news are, from -1 to 1. A copy of an earlier item has that one's number in `copy_of`.
    `surprise` is how surprising its own company was when it came, before that of its company counted.
    """

    number: int
    at: datetime
    source: str
    words: frozenset[str]
    tokens: frozenset[str] = frozenset()
    tone: float = 0.0
    encoder: str = ""
    place: Place | None = field(default=None, compare=False)
    copy_of: int | None = None
    surprise: float = 0.0

    @property
    def origin(self) -> int:
        """The item that it is a copy of, else itself."""
        return self.number if self.copy_of is None else self.copy_of
