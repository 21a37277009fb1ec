"""Answers of the last minutes, so that a question asked again word for word need not be computed again."""

import copy
import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from perennial.ops.serving.port import Answer

__all__ = ["AnswerCache"]

KEPT_S = 600.0  # so long at most is anything kept of what somebody asked


class AnswerCache:
    """At most `rows` answers, by version and exact text; the one that was asked for longest ago goes first.

    A version never changes, so its answer to a text does not either. Texts are kept as keyed digests alone. Whoever
    owns it calls `forget_old` now and then: what nobody asks again goes too. Safe to share between threads.
    """

    def __init__(self, rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows, self._clock = rows, clock
        self._kept: OrderedDict[tuple[int, bytes], Answer] = OrderedDict()  # by when each was asked for last
        self._since: OrderedDict[tuple[int, bytes], float] = OrderedDict()  # by when each was computed
        self._lock, self._key = threading.Lock(), secrets.token_bytes(32)
        self.found = 0  # answers that were given again

    def get(self, version: int, asked: Any) -> Answer | None:
        """The version's answer; None where it is not kept, or what is asked is no text."""
        if not self._rows or not isinstance(asked, str):
            return None
        place = self._place(version, asked)
        self.forget_old()
        with self._lock:
            answer = self._kept.get(place)
            if answer is not None:
                self._kept.move_to_end(place)
                self.found += 1
            return answer

    def keep(self, version: int, asked: Any, answer: Answer) -> None:
        """Keep a copy: an answer's arrays are rows of a whole batch's, in memory that is shared with the engine."""
        if not self._rows or not isinstance(asked, str):
            return
        place, own = self._place(version, asked), copy.deepcopy(answer)
        with self._lock:
            self._kept[place], self._since[place] = own, self._clock()
            self._kept.move_to_end(place)
            self._since.move_to_end(place)
            while len(self._kept) > self._rows:
                oldest, _ = self._kept.popitem(last=False)
                del self._since[oldest]

    def forget_old(self) -> None:
        """Let go of what has been kept for long enough, whether or not anybody asks for it again."""
        with self._lock:
            end = self._clock() - KEPT_S
            while self._since and next(iter(self._since.values())) < end:
                place, _ = self._since.popitem(last=False)
                del self._kept[place]

    def __len__(self) -> int:
        return len(self._kept)

    def _place(self, version: int, asked: str) -> tuple[int, bytes]:
        return version, hashlib.blake2b(asked.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).digest()
