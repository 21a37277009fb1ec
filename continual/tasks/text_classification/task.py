"""Text classification: the input is a text, answer and target are labels, and an answer is right or wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from perennial.continual.errors import DataError
from perennial.continual.preparation import KnownLabels, admit_example, admit_text, admit_time, normalise
from perennial.continual.records import Example, Origin
from perennial.continual.task import PREDICTION, ColumnKind, KeptRow, Row

if TYPE_CHECKING:
    from perennial.continual.apprentice import Apprentice

__all__ = ["TextClassification"]


@dataclass(frozen=True, slots=True)
class TextClassification:
    """Rows are `Example`s.

    >>> task = TextClassification()
    >>> task.score("fee", "fee"), task.score("fee", "refund"), task.identity("My  CARD") == task.identity("my card")
    (1.0, 0.0, True)
    """

    name: ClassVar[str] = "text_classification"
    stratum_noun: ClassVar[str] = "label"
    adds_up: ClassVar[bool] = False
    stays_right: ClassVar[bool] = True
    text_columns: ClassVar[Sequence[str]] = ("text",)
    log_columns: ClassVar[Mapping[str, ColumnKind]] = MappingProxyType(
        {
            "text": ColumnKind.TEXT,
            PREDICTION: ColumnKind.TEXT,
            "confidence": ColumnKind.REAL,
            "margin": ColumnKind.REAL,
            "entropy": ColumnKind.REAL,
            "tokens": ColumnKind.WHOLE,
            "known": ColumnKind.FLAG,
        }
    )

    def watched(self, logged: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        """All of it, as it is logged."""
        return {name: logged[name] for name in self.log_columns}

    def read_row(self, raw: Mapping[str, Any], *, now: datetime, known: KnownLabels | None = None) -> Example:
        """An example from `text` and `label`, and `at`, `origin`, `key`, `prediction_id` and `redacted` where given."""
        for field in ("text", "label"):
            if field not in raw:
                raise DataError(f"a row has the fields {sorted(raw)}; it needs 'text' and 'label'")
        return admit_example(
            text=raw["text"],
            label=raw["label"],
            at=admit_time(raw.get("at"), now=now),
            origin=Origin.named(raw.get("origin", Origin.IMPORT)),
            known=known or KnownLabels(),
            key=raw.get("key"),
            prediction_id=raw.get("prediction_id"),
            redacted=bool(raw.get("redacted", False)),
        )

    def write_row(self, row: Row[str, str]) -> dict[str, Any]:
        """The fields of an example, without attributes: what learns or answers is not told whose a row is."""
        return {
            "text": row.input,
            "label": row.target,
            "at": row.at.isoformat(),
            "key": row.key,
            "redacted": row.redacted,
            "origin": row.origin.value,
            "prediction_id": row.prediction_id,
        }

    def keep(self, row: Row[str, str]) -> KeptRow:
        """The text and the label themselves."""
        return KeptRow(
            input=row.input,
            target=row.target,
            at=row.at,
            origin=row.origin,
            key=row.key,
            prediction_id=row.prediction_id,
            redacted=row.redacted,
            attributes=dict(getattr(row, "attributes", {})),
        )

    def read_kept(self, kept: KeptRow) -> Example:
        """An example."""
        return Example(
            text=kept.input,
            label=kept.target,
            at=kept.at,
            origin=kept.origin,
            key=kept.key,
            prediction_id=kept.prediction_id,
            redacted=kept.redacted,
            attributes=kept.attributes,
        )

    def read_answer(self, kept: str) -> str:
        """The label itself."""
        return kept

    def read_target(self, kept: str) -> str:
        """The label itself."""
        return kept

    def joined(self, known: str, later: str) -> str:
        """The label that was told last."""
        return later

    def redact(self, task_input: str) -> tuple[str, bool]:
        """The text as it may be kept."""
        admitted = admit_text(task_input)
        return admitted.text, admitted.redacted

    def identity(self, task_input: str) -> bytes:
        """The normalised text; `row_hash`, the split and the lottery of the buffers are hashes of it."""
        return normalise(task_input).encode()

    def stratum(self, row: Row[str, str]) -> str:
        """The label."""
        return row.target

    def class_of(self, row: Row[str, str]) -> str | None:
        """The label."""
        return row.target

    def size_bytes(self, row: Row[str, str]) -> int:
        """The UTF-8 of text and label."""
        return len(row.input.encode()) + len(row.target.encode())

    def texts(self, task_input: str) -> Sequence[str]:
        """The text itself."""
        return (task_input,)

    def words(self, task_input: str) -> Sequence[str]:
        """The words of the normalised text."""
        return normalise(task_input).split()

    def score(self, answer: str, target: str) -> float:
        """1 for the right label, 0 for any other."""
        return float(answer == target)

    def shown(self, answer: str) -> Sequence[str]:
        """Nothing: all answers are of the same few labels."""
        del answer
        return ()

    def same(self, one: str, other: str) -> bool:
        """Whether the labels are equal."""
        return one == other

    def apprentice(self) -> "Apprentice | None":
        """One that corrects labels by the embeddings in the log."""
        from perennial.continual.drift.apprentice import ClassApprentice

        return ClassApprentice()
