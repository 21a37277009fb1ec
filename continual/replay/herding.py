"""Class-balanced, and within a class the rows whose mean stays closest to the mean of all rows offered."""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.replay.kept_mean import GRID, KeptMean
from perennial.continual.replay.largest import LargestGroup
from perennial.continual.replay.lottery import Ticket
from perennial.continual.replay.port import BufferKind, R
from perennial.continual.replay.slots import SlottedBuffer
from perennial.continual.task import AnyTask

__all__ = ["HerdingBuffer"]

_WIDTH = 64  # an embedding is projected to this many numbers: enough to compare means, small enough to keep with a row

Floats = NDArray[np.float64]


class HerdingBuffer(SlottedBuffer[R, Floats]):
    """Keeps, class by class, the rows that together stand closest to their class's running mean.

    The classes are the task's strata. Give `offer` the row's embedding; without one the row is described by the hashed
    words that its task names. All rows of a buffer are described alike. An insertion into a full buffer looks at every
    kept row of one class. A class's mean counts an evicted row offered again a second time; it holds sums over rows, so
    after an erasure of rows that had been evicted before, start a new buffer if their traces in the mean matter.
    Source: iCaRL, Rebuffi et al., CVPR 2017, section 3.4, made online: instead of choosing a prefix, the row that can
    best be spared leaves. Wide embeddings are folded by random signs, Weinberger et al., ICML 2009.

    >>> from datetime import datetime, timezone
    >>> from perennial.continual.records import Example
    >>> buffer = HerdingBuffer(capacity=2, seed=7)
    >>> at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    >>> for name, x in (("low", 0.0), ("high", 1.0), ("middle", 0.5)):
    ...     _ = buffer.offer(Example(text=name, label="a", at=at), embedding=[1.0, x])
    >>> len(buffer)
    2
    """

    kind = BufferKind.HERDING

    def __init__(
        self, *, capacity: int, seed: int = 0, byte_budget: int | None = None, task: AnyTask | None = None
    ) -> None:
        super().__init__(capacity=capacity, seed=seed, byte_budget=byte_budget, task=task)
        self._classes: dict[str, KeptMean] = {}
        self._largest = LargestGroup()
        self._outgoing: bytes | None = None  # who leaves for the row that is just coming in, when that is known
        self._space: int | None = None  # width of the given embeddings; 0 for hashed words
        self._signs: Floats | None = None
        self._ones: Floats = np.ones(0)

    def _note(self, row: R, ticket: Ticket, uncertainty: float | None, embedding: Sequence[float] | None) -> Floats:
        space = 0 if embedding is None else len(embedding)
        if self._space is None:
            self._space = space
        if space != self._space:
            raise DataError(
                f"a herding buffer was offered an embedding of {space} numbers after rows with {self._space} "
                "(0 means none); describe all rows alike, or start a new buffer after a change of encoder"
            )
        if embedding is None:
            vector = _hashed(self._task.words(row.input))
        else:
            vector = self._project(np.asarray(embedding, np.float64))
        norm = math.sqrt(vector.dot(vector))
        if not math.isfinite(norm):
            raise DataError(f"the embedding of {str(row.input)[:40]!r} is not finite; offer finite numbers")
        if norm == 0:
            return vector
        scaled: Floats = vector * (GRID / norm)
        np.rint(scaled, scaled)
        scaled *= 1.0 / GRID
        return scaled

    def _project(self, embedding: Floats) -> Floats:
        """Return the embedding folded into 64 numbers under random signs, which keeps inner products on average."""
        if len(embedding) <= _WIDTH:
            return embedding
        if self._signs is None:
            self._signs = np.random.default_rng(self._seed).choice([-1.0, 1.0], len(embedding))
            self._ones = np.ones(-(-len(embedding) // _WIDTH))
        signed = embedding * self._signs
        if len(signed) % _WIDTH:
            signed = np.pad(signed, (0, -len(signed) % _WIDTH))
        parts = signed.reshape(-1, _WIDTH)  # (d / 64, 64)
        folded: Floats = self._ones @ parts  # half the time of a sum over the first axis
        return folded

    def _note_again(self, ticket: Ticket, extra: Any) -> Floats:
        return _on_grid(extra)

    def _extra(self, note: Floats) -> Any:
        return note.tolist()

    def _wants(self, row: R, note: Floats) -> bool:
        group = self._class_of(self._task.stratum(row), len(note))
        group.count(note)
        full = len(self._rows) == self.capacity and self.byte_budget is None
        if not full or len(group) < len(self._classes[self._largest.top()]):
            return True
        spared = group.spare(
            note
        )  # the row's own class must give one: perhaps the row itself, which then need not enter
        if spared == [b""]:
            return False
        self._outgoing = min(filter(None, spared), key=self._slots.__getitem__)
        return True

    def _class_of(self, stratum: str, width: int) -> KeptMean:
        group = self._classes.get(stratum)
        if group is None:
            group = self._classes[stratum] = KeptMean(width)
        return group

    def _entered(self, slot: int) -> None:
        stratum = self._task.stratum(self._rows[slot])
        group = self._class_of(stratum, len(self._notes[slot]))
        group.put(self._tickets[slot].identity, self._notes[slot])
        self._largest.put(stratum, len(group), 0.0)

    def _leaving(self, slot: int) -> None:
        stratum = self._task.stratum(self._rows[slot])
        group = self._classes[stratum]
        group.drop(self._tickets[slot].identity)
        self._largest.put(stratum, len(group), 0.0)
        if not len(group) and group.all_rows == 0:
            del self._classes[stratum]

    def _erasing(self, slot: int) -> None:
        self._classes[self._task.stratum(self._rows[slot])].discount(self._notes[slot])

    def _victim(self) -> int:
        if self._outgoing is not None:
            slot, self._outgoing = self._slots[self._outgoing], None
            return slot
        group = self._classes[self._largest.top()]
        return min(self._slots[identity] for identity in group.spare())

    def _counters(self) -> dict[str, Any]:
        classes = {
            stratum: {"count": group.all_rows, "sum": group.all_sum.tolist()}
            for stratum, group in self._classes.items()
        }
        return {"space": self._space, "classes": classes}

    def _resume(self, counters: dict[str, Any]) -> None:
        self._space = counters["space"]
        for stratum, entry in counters["classes"].items():
            group = self._class_of(str(stratum), len(entry["sum"]))
            group.all_rows = int(entry["count"])
            group.all_sum[:] = _on_grid(entry["sum"])


def _on_grid(values: Any) -> Floats:
    """Return stored numbers as multiples of 1 / GRID; those that are change nothing."""
    vector: Floats = np.rint(np.asarray(values, dtype=np.float64) * GRID) / GRID
    return vector


def _hashed(words: Sequence[str]) -> Floats:
    """Return the counts of words by a stable hash with signs; (64,), not normalised."""
    vector = np.zeros(_WIDTH)
    for word in words:
        code = zlib.crc32(word.encode())
        vector[code % _WIDTH] += 1.0 if code & 0x80000000 else -1.0
    return vector
