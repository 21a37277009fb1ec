"""What every buffer does alike: rows in slots, one row an input, sampling, erasing, budgets, state."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.replay.lottery import Ticket, draw
from perennial.continual.replay.port import BufferKind, BufferState, Offered, OfferOutcome, R, row_bytes
from perennial.continual.task import AnyTask
from perennial.continual.tasks import task_named

__all__ = ["SlottedBuffer"]

_RNG_NAME = "blake2b"

N = TypeVar("N")


class SlottedBuffer(ABC, Generic[R, N]):
    """Base of the buffers. A kind says what to note about a row (N), whether it wants it, and who leaves when full.

    A row that leaves frees its slot for the last row, so that drawing a slot is drawing a row.
    """

    kind: ClassVar[BufferKind]

    def __init__(
        self, *, capacity: int, seed: int = 0, byte_budget: int | None = None, task: AnyTask | None = None
    ) -> None:
        if capacity < 1:
            raise ConfigurationError(f"replay capacity is {capacity} rows; it must be at least 1")
        if byte_budget is not None and byte_budget < 1:
            raise ConfigurationError(
                f"replay byte budget is {byte_budget}; it must be at least 1, or None for no limit"
            )
        if not 0 <= seed < 2**64:
            raise ConfigurationError(f"replay seed is {seed}; it must lie in [0, 2**64)")
        self.name = self.kind.value
        self.capacity = capacity
        self.byte_budget = byte_budget
        self._task = task or task_named()
        self._seed = seed
        self._seen = 0
        self._bytes = 0
        self._rows: list[R] = []
        self._tickets: list[Ticket] = []
        self._notes: list[N] = []
        self._slots: dict[bytes, int] = {}

    @property
    def seen(self) -> int:
        """How many rows were offered, repeated ones included."""
        return self._seen

    @property
    def bytes(self) -> int:
        """What the kept rows cost, by `row_bytes`."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._rows)

    def offer(
        self, row: R, *, uncertainty: float | None = None, embedding: Sequence[float] | None = None
    ) -> Offered[R]:
        """Consider one row and say what became of it; see `ReplayBuffer.offer`."""
        ticket = self._draw(row)
        slot = self._slots.get(ticket.identity)
        gone: tuple[R, ...] = ()
        if slot is not None:
            held = self._rows[slot]
            if held.target == row.target or row.at < held.at:
                self._seen += 1
                return Offered(outcome=OfferOutcome.DUPLICATE)
        note = self._note(row, ticket, uncertainty, embedding)
        self._seen += 1
        if slot is not None:
            self._erasing(slot)
            gone = (self._remove(slot),)
        too_big = self.byte_budget is not None and self._size(row) > self.byte_budget
        if too_big or not self._wants(row, note):
            return Offered(outcome=OfferOutcome.REJECTED, evicted=gone)
        self._insert(row, ticket, note)
        while self._over_budget():
            gone += (self._remove(self._victim()),)
        if ticket.identity in self._slots:
            return Offered(outcome=OfferOutcome.KEPT, evicted=gone)
        return Offered(outcome=OfferOutcome.REJECTED, evicted=tuple(left for left in gone if left is not row))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[R, ...]:
        """Draw min(n, len) different rows, each equally likely; O(n)."""
        if n < 0:
            raise DataError(f"asked for {n} replay rows; the number must be at least 0")
        chosen = rng.choice(len(self._rows), size=min(n, len(self._rows)), replace=False) if self._rows else ()
        return tuple(self._rows[int(slot)] for slot in chosen)

    def rows(self) -> tuple[R, ...]:
        """Return every kept row, in slot order."""
        return tuple(self._rows)

    def erase(self, key: str) -> int:
        """Drop every row that carries this key and return how many; O(len)."""
        wanted = [ticket.identity for row, ticket in zip(self._rows, self._tickets, strict=True) if row.key == key]
        for identity in wanted:
            self._erasing(self._slots[identity])
            self._remove(self._slots[identity])
        return len(wanted)

    def state(self) -> BufferState[R]:
        """Return everything needed to continue as if never stopped."""
        extras = tuple(self._extra(note) for note in self._notes)
        return BufferState(
            kind=self.kind,
            capacity=self.capacity,
            byte_budget=self.byte_budget,
            seen=self._seen,
            counters=self._counters(),
            rng={"name": _RNG_NAME, "seed": self._seed},
            rows=tuple(self._rows),
            extras=extras if any(extra is not None for extra in extras) else (),
        )

    @classmethod
    def restore(cls, state: BufferState[R], *, task: AnyTask | None = None) -> Self:
        """Rebuild the buffer that `state` was taken from.

        Raises:
            DataError: the state belongs to another kind, or its rows repeat or exceed its budgets.
        """
        if state.kind != cls.kind or state.rng.get("name") != _RNG_NAME:
            raise DataError(
                f"a {state.kind} state with random source {state.rng.get('name')!r} was given to a {cls.kind} buffer; "
                f"it takes {cls.kind} with {_RNG_NAME!r}; use restore_buffer"
            )
        buffer = cls(capacity=state.capacity, seed=int(state.rng["seed"]), byte_budget=state.byte_budget, task=task)
        buffer._seen = state.seen
        buffer._resume(state.counters)
        extras = state.extras or (None,) * len(state.rows)
        for row, extra in zip(state.rows, extras, strict=True):
            ticket = buffer._draw(row)
            if ticket.identity in buffer._slots:
                raise DataError(f"a {cls.kind} state holds the row {str(row.input)[:40]!r} twice; restore an older one")
            buffer._insert(row, ticket, buffer._note_again(ticket, extra))
        if buffer._over_budget():
            raise DataError(
                f"a {cls.kind} state holds {len(buffer)} rows and {buffer.bytes} bytes; "
                f"its budget is {state.capacity} rows and {state.byte_budget} bytes; restore an older one"
            )
        return buffer

    @abstractmethod
    def _note(self, row: R, ticket: Ticket, uncertainty: float | None, embedding: Sequence[float] | None) -> N:
        """Return what this kind remembers about a row; called once an offer that is no duplicate, before any change."""

    @abstractmethod
    def _note_again(self, ticket: Ticket, extra: Any) -> N:
        """Return the note of a restored row."""

    @abstractmethod
    def _victim(self) -> int:
        """Return the slot of the row that must leave."""

    def _wants(self, row: R, note: N) -> bool:
        """Say whether the row may enter at all; the place to count it."""
        return True

    def _entered(self, slot: int) -> None:
        """Take notice of the row that now lies in the last slot."""

    def _leaving(self, slot: int) -> None:
        """Take notice that the row in this slot is about to leave, for whatever reason."""

    def _erasing(self, slot: int) -> None:
        """Take back what the row in this slot left in the counters."""

    def _extra(self, note: N) -> Any:
        """Return what of a note can't be made again from the row."""
        return None

    def _counters(self) -> dict[str, Any]:
        return {}

    def _resume(self, counters: dict[str, Any]) -> None:
        """Take the counters back, before any row."""

    def _draw(self, row: R) -> Ticket:
        return draw(self._task.identity(row.input), seed=self._seed)

    def _size(self, row: R) -> int:
        return row_bytes(row, self._task)

    def _over_budget(self) -> bool:
        return len(self._rows) > self.capacity or (self.byte_budget is not None and self._bytes > self.byte_budget)

    def _insert(self, row: R, ticket: Ticket, note: N) -> None:
        slot = len(self._rows)
        self._rows.append(row)
        self._tickets.append(ticket)
        self._notes.append(note)
        self._slots[ticket.identity] = slot
        self._bytes += self._size(row)
        self._entered(slot)

    def _remove(self, slot: int) -> R:
        self._leaving(slot)
        row, ticket = self._rows[slot], self._tickets[slot]
        del self._slots[ticket.identity]
        self._bytes -= self._size(row)
        last = len(self._rows) - 1
        if slot != last:
            self._rows[slot], self._tickets[slot] = self._rows[last], self._tickets[last]
            self._notes[slot] = self._notes[last]
            self._slots[self._tickets[slot].identity] = slot
        self._rows.pop()
        self._tickets.pop()
        self._notes.pop()
        return row
