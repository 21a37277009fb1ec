"""What the loop asks of a replay buffer, and the plain records that pass between it and whoever keeps it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from perennial.continual.errors import DataError
from perennial.continual.task import AnyRow, AnyTask
from perennial.continual.tasks import task_named

__all__ = ["BufferKind", "BufferState", "OfferOutcome", "Offered", "ReplayBuffer", "row_bytes"]

_ROW_OVERHEAD = 64  # time, origin and the identity kept beside the row; a flat charge, so that budgets are portable

R = TypeVar("R", bound=AnyRow)


class BufferKind(StrEnum):
    """Which rule decides what stays when a buffer is full."""

    RESERVOIR = "reservoir"
    CLASS_BALANCED = "class_balanced"
    HERDING = "herding"
    UNCERTAINTY = "uncertainty"


class OfferOutcome(StrEnum):
    """What became of an offered row."""

    KEPT = "kept"
    REJECTED = "rejected"
    DUPLICATE = "duplicate"  # the same input lies in the buffer already with this or a newer target


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered(Generic[R]):
    """The answer to one offered row: its outcome, and the rows that left so that it could stay.

    >>> Offered(outcome=OfferOutcome.REJECTED).kept
    False
    """

    outcome: OfferOutcome
    evicted: tuple[R, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether the row lies in the buffer now because of this offer."""
        return self.outcome is OfferOutcome.KEPT


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferState(Generic[R]):
    """Everything a buffer is, in values that survive JSON: continuing from it equals never having stopped.

    `rng` names the source of chance and its seed: a row's lottery number is a keyed hash of its identity, so there is
    no position in a stream of random numbers to lose. `extras` holds one value a row, in the order of `rows`; empty for
    the kinds that need none. The order of `rows` is part of the state: `sample` draws by place.

    >>> BufferState(kind=BufferKind.RESERVOIR, capacity=2, byte_budget=None, seen=0, counters={}, rng={}).rows
    ()
    """

    kind: BufferKind
    capacity: int
    byte_budget: int | None
    seen: int
    counters: dict[str, Any]
    rng: dict[str, Any]
    rows: tuple[R, ...] = ()
    extras: tuple[Any, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.extras and len(self.extras) != len(self.rows):
            raise DataError(
                f"a {self.kind} buffer's state has {len(self.extras)} extras for {len(self.rows)} rows; "
                "it needs one a row or none; restore from an older state"
            )


class ReplayBuffer(Protocol[R]):
    """A bounded memory of past rows and their targets; one owner at a time, not thread-safe.

    After every call `len(buffer) <= capacity` and `bytes <= byte_budget`. Nothing given in is changed.
    """

    name: str
    capacity: int
    byte_budget: int | None

    @property
    def seen(self) -> int:
        """How many rows were offered, repeated ones included."""
        ...

    @property
    def bytes(self) -> int:
        """What the kept rows cost, by `row_bytes`."""
        ...

    def __len__(self) -> int: ...

    def offer(
        self, row: R, *, uncertainty: float | None = None, embedding: Sequence[float] | None = None
    ) -> Offered[R]:
        """Consider one row and say what became of it.

        A retry is harmless: the same input with the same target is answered `DUPLICATE` while it is kept, and meets the
        same lottery number again once it is not. A newer row with the same input and another target replaces the older.
        `uncertainty` in [0, 1] (higher means more doubtful) and `embedding` are used by the kinds that are named so.
        """
        ...

    def sample(self, n: int, rng: np.random.Generator) -> tuple[R, ...]:
        """Draw min(n, len) different rows, each equally likely; the buffer does not change.

        Raises:
            DataError: n is negative.
        """
        ...

    def rows(self) -> tuple[R, ...]:
        """Return every kept row."""
        ...

    def erase(self, key: str) -> int:
        """Drop every row that carries this key and return how many; a second call returns 0."""
        ...

    def state(self) -> BufferState[R]:
        """Return everything needed to continue as if never stopped."""
        ...

    @classmethod
    def restore(cls, state: BufferState[R], *, task: AnyTask | None = None) -> Self:
        """Rebuild the buffer that `state` was taken from.

        Raises:
            DataError: the state belongs to another kind or is not whole.
        """
        ...


def row_bytes(row: AnyRow, task: AnyTask | None = None) -> int:
    """Return what one row costs against a byte budget: its size by the task, its UTF-8 names, plus 64 for the rest.

    >>> from datetime import datetime, timezone
    >>> from perennial.continual.records import Example
    >>> row_bytes(Example(text="card lost", label="lost_card", at=datetime(2026, 1, 1, tzinfo=timezone.utc)))
    82
    """
    names = (row.key or "", row.prediction_id or "")
    return _ROW_OVERHEAD + (task or task_named()).size_bytes(row) + sum(len(name.encode()) for name in names)
