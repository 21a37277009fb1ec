"""Which answered requests count as looks of their own: retries, copies and loud callers tell the same thing again."""

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.window import words_of
from perennial.continual.errors import ConfigurationError

__all__ = ["Counting", "CountingRule", "bursts_of"]

_OF_NOBODY = 10  # a text of nobody is looked for in so many times fewer requests: it may be a popular one
_LEAST_COUNTED = 10  # one request in so many counts, however much they repeat each other
_NEWEST = 300  # requests that counted last, among which a caller has its share
_BURST = 50  # requests that count: what one caller asks within so many belongs together
_FAIR = 2.0  # times an equal share is what a caller may have where there are few of them


@dataclass(frozen=True, slots=True, kw_only=True)
class CountingRule:
    """When a request counts.

    It does not where the same caller sent the same words and got the same answer within the last `copies_within`
    requests, or where its caller has more than `caller_share` of those that counted. Of callers without a name it is
    the same text within a tenth as many requests. Where there are few callers each may have twice an equal share. One
    request in ten counts always.

    Raises:
        ConfigurationError: a number is out of its range.

    >>> CountingRule().copies_within
    1000
    """

    copies_within: int = 1_000
    caller_share: float = 0.05

    def __post_init__(self) -> None:
        if self.copies_within < 0 or not 0 < self.caller_share <= 1:
            raise ConfigurationError(
                f"copies_within is {self.copies_within} and caller_share {self.caller_share}; "
                "give at least 0, and a share above 0 and at most 1"
            )

    @property
    def memory(self) -> int:
        """How many requests before one decide about it."""
        return max(self.copies_within, _NEWEST)


class Counting:
    """Says of each request, in the order of the log, whether it counts.

    The rule looks back over requests and never ahead, so that traffic that does not change in kind counts alike at all
    times: a reference and a later window are treated in the same way.

    >>> counting = Counting(CountingRule(copies_within=20))
    >>> counting.counted(["ann", "ann", None, None, "bob"], ["Hi!", "hi", "hi", "hi", "hi"], ["a"] * 5).tolist()
    [True, False, True, False, True]
    """

    def __init__(self, rule: CountingRule) -> None:
        self._rule = rule
        self._number = 0
        self._last: dict[bytes, int] = {}  # the number of the request that said it last
        self._callers: deque[str | None] = deque()  # of the newest that counted
        self._rows_of: Counter[str | None] = Counter()
        self._since_counted = 0

    def counted(self, callers: Sequence[str | None], texts: Iterable[str], answers: Iterable[str]) -> NDArray[np.bool_]:
        """Whether each request counts."""
        return np.array([self._one(*row) for row in zip(callers, texts, answers, strict=True)], dtype=bool)

    def _one(self, caller: str | None, text: str, answer: str) -> bool:
        self._number += 1
        repeats = self._is_copy(caller, _said(caller, text, answer)) or (caller is not None and self._is_loud(caller))
        self._since_counted += 1
        if repeats and self._since_counted < _LEAST_COUNTED:
            return False
        self._since_counted = 0
        self._callers.append(caller)
        self._rows_of[caller] += 1
        if len(self._callers) > _NEWEST:
            gone = self._callers.popleft()
            self._rows_of[gone] -= 1
            if not self._rows_of[gone]:
                del self._rows_of[gone]
        return True

    def _is_copy(self, caller: str | None, said: bytes) -> bool:
        within = self._rule.copies_within
        before = self._last.pop(said, None)
        self._last[said] = self._number  # the newest lie last
        while self._last and (oldest := next(iter(self._last.items())))[1] <= self._number - within:
            del self._last[oldest[0]]
        if caller is None:
            within //= _OF_NOBODY
        return before is not None and self._number - before <= within

    def _is_loud(self, caller: str) -> bool:
        unnamed = self._rows_of.get(None, 0)
        callers = len(self._rows_of) - (unnamed > 0) + unnamed + (caller not in self._rows_of)
        return self._rows_of[caller] >= max(self._rule.caller_share, _FAIR / callers) * _NEWEST


def bursts_of(callers: Sequence[str | None]) -> NDArray[np.int64]:
    """The number of the burst that each request belongs to, in the order in which they counted.

    What one caller asked within a stretch of 50 requests is a burst: such requests may be about one thing. A request of
    nobody is a burst of its own.

    >>> bursts_of(["ann", "bob", "ann", None, None]).tolist()
    [0, 1, 0, 2, 3]
    """
    numbers: dict[tuple[int, str | int], int] = {}
    places = ((place // _BURST, place if caller is None else caller) for place, caller in enumerate(callers))
    return np.array([numbers.setdefault(place, len(numbers)) for place in places], dtype=np.int64)


def _said(caller: str | None, text: str, answer: str) -> bytes:
    """What copies share: a caller's words, or the text where it has no words or nobody is named; and the answer."""
    words = " ".join(words_of(text)) if caller is not None else ""
    asked = f"{caller}\n{words}" if words else f"{caller or ''}\r{' '.join(text.casefold().split())}"
    return hashlib.blake2b(f"{asked}\n{answer}".encode(errors="surrogatepass"), digest_size=8).digest()
