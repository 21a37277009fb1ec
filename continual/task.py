"""What one kind of prediction is: its rows, who equals whom, and how good an answer is.

Everything that decides (replay, gate, rollout, policy) asks a task and knows nothing else of inputs, answers and
targets. A task is pure: it keeps no state, reads no file and answers the same in every process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from perennial.continual.records import Origin

if TYPE_CHECKING:
    from perennial.continual.apprentice import Apprentice

__all__ = ["PREDICTION", "AnyRow", "AnyTask", "ColumnKind", "KeptRow", "Row", "Task", "score_kept"]

PREDICTION = "prediction"  # the column of the traffic log that keeps the model's own answer, in every task

Input = TypeVar("Input")
Answer = TypeVar("Answer")
Target = TypeVar("Target")
Input_co = TypeVar("Input_co", covariant=True)
Target_co = TypeVar("Target_co", covariant=True)


class ColumnKind(StrEnum):
    """What one column of the traffic log holds."""

    TEXT = "text"
    REAL = "real"  # with the precision of 32 bits
    WHOLE = "whole"  # of 32 bits
    FLAG = "flag"  # true, false, or nothing where it cannot be told


class Row(Protocol[Input_co, Target_co]):
    """One request with what should have been answered. `key` names the person or system that it came from."""

    @property
    def input(self) -> Input_co:
        """What was asked."""
        ...

    @property
    def target(self) -> Target_co:
        """What a right answer is measured by."""
        ...

    @property
    def at(self) -> datetime:
        """When it became known, with a time zone."""
        ...

    @property
    def key(self) -> str | None:
        """Whose it is; what `erase` looks for."""
        ...

    @property
    def prediction_id(self) -> str | None:
        """The logged request that it came from, if it was one."""
        ...

    @property
    def origin(self) -> Origin:
        """Which way it came in."""
        ...

    @property
    def redacted(self) -> bool:
        """Whether personal data was taken out of the input before it was kept."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRow:
    """A row as the ledger keeps it: input and target are texts that its task reads again.

    `attributes` say whose it is; they are kept for proof alone.
    """

    input: str
    target: str
    at: datetime
    origin: Origin
    key: str | None = None
    prediction_id: str | None = None
    redacted: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)


class Task(Protocol[Input, Answer, Target]):
    """One kind of prediction; `perennial.continual.tasks` has them by name."""

    @property
    def name(self) -> str:
        """What `[models.NAME] task` calls it."""
        ...

    @property
    def stratum_noun(self) -> str:
        """What a stratum is called in a sentence, e.g. `label`."""
        ...

    @property
    def log_columns(self) -> Mapping[str, ColumnKind]:
        """What the traffic log keeps of each answered request, in order, beside what it keeps of every task.

        `prediction` is one of them: a text that `read_answer` reads. The other texts hold what was asked.
        """
        ...

    @property
    def text_columns(self) -> Sequence[str]:
        """Those of them that hold free text, which an erasure searches for."""
        ...

    def watched(self, logged: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        """What drift is looked for in, of the log's columns: `text` and `prediction`, one a row.

        The text describes what was asked, the prediction is the answer as one out of few. `answer`, the whole of it as
        it is kept, is beside them where a prediction is less; `confidence`, `margin`, `entropy` and `tokens` where the
        task has such.
        """
        ...

    def read_row(self, raw: Any, *, now: datetime) -> Row[Input, Target]:
        """A row from the fields of a file or a request, cleaned and without personal data; `now` where it has no time.

        What `write_row` gave is read back unchanged.

        Raises:
            DataError: a field breaks its rule; the message names the field.
        """
        ...

    def write_row(self, row: Row[Input, Target]) -> dict[str, Any]:
        """The fields of a row, in values that survive JSON."""
        ...

    def keep(self, row: Row[Input, Target]) -> KeptRow:
        """The row as the ledger keeps it; what is a text already stays as it is."""
        ...

    def read_kept(self, kept: KeptRow) -> Row[Input, Target]:
        """The row that `keep` gave, unchanged; no rule of today is asked of it.

        Raises:
            DataError: input or target are none of this task.
        """
        ...

    def read_answer(self, kept: str) -> Answer:
        """An answer as the traffic log keeps it.

        Raises:
            DataError: it is not one.
        """
        ...

    def read_target(self, kept: str) -> Target:
        """A target as the ledger keeps it.

        Raises:
            DataError: it is not one.
        """
        ...

    @property
    def adds_up(self) -> bool:
        """Whether what is told of one input later joins what was known, and does not take its place."""
        ...

    @property
    def stays_right(self) -> bool:
        """Whether what was right stays right: then a new version may not lose old rows, else fresh ones alone decide.

        Tastes change; what a text means hardly does.
        """
        ...

    def joined(self, known: str, later: str) -> str:
        """The target, as the ledger keeps it, once both are known; where targets add up, their order is the same.

        Raises:
            DataError: one of them is none.
        """
        ...

    def redact(self, task_input: Input) -> tuple[Input, bool]:
        """The input cleaned and without personal data, and whether there was any; a second time changes nothing.

        Raises:
            DataError: nothing is left that could be answered.
        """
        ...

    def identity(self, task_input: Input) -> bytes:
        """The same bytes for inputs that count as the same, in every process and release; any length."""
        ...

    def stratum(self, row: Row[Input, Target]) -> str:
        """The part of all rows that this one belongs to: buffers keep each in balance, no part may get much worse."""
        ...

    def class_of(self, row: Row[Input, Target]) -> str | None:
        """The class that a version must know to answer the row rightly; None where answers are of no fixed set."""
        ...

    def size_bytes(self, row: Row[Input, Target]) -> int:
        """What the row's input and target cost against a byte budget."""
        ...

    def texts(self, task_input: Input) -> Sequence[str]:
        """The free texts of an input, which an erasure searches for."""
        ...

    def words(self, task_input: Input) -> Sequence[str]:
        """What describes an input where nobody has an embedding of it; two that share many are alike."""
        ...

    def score(self, answer: Answer, target: Target) -> float:
        """How good an answer is, in [0, 1]; 1 is the best there is. Quality is the mean of it everywhere."""
        ...

    def shown(self, answer: Answer) -> Sequence[str]:
        """What an answer shows of many things that could be shown, whose variety is bounded; nothing in other tasks."""
        ...

    def same(self, one: Answer, other: Answer) -> bool:
        """Whether two answers are the same to whoever asked."""
        ...

    def apprentice(self) -> "Apprentice | None":
        """A new apprentice; None where the log does not hold what one would need to answer from."""
        ...


AnyRow = Row[Any, Any]
AnyTask = Task[Any, Any, Any]


def score_kept(task: AnyTask, answer: str, target: str) -> float:
    """The score of an answer and a target as log and ledger keep them."""
    return task.score(task.read_answer(answer), task.read_target(target))
