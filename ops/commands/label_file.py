"""A file of labels: of answered predictions, or with texts of their own."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from perennial.continual.errors import DataError
from perennial.continual.preparation import (
    LABEL,
    FileReading,
    Role,
    labelled_rows,
    read_table,
    refuse_rows,
)
from perennial.continual.records import Example
from perennial.ops.ledger import FeedbackRow
from perennial.ops.ledger.ports import Vocabulary
from perennial.ops.store.feedback import GivenLabel, admit_given, known_labels

__all__ = ["LabelFile", "read_label_file"]

_ROLES = (Role("prediction_id"), LABEL, Role("text"), Role("at"), Role("key"))
_NOTHING_STATED = FileReading()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFile:
    """The rows that may be stored, and those that were left out, each with its line and cause."""

    rows: tuple[FeedbackRow | Example, ...]
    refused: tuple[dict[str, object], ...] = ()
    unit: str = "line"  # what the rows of the refused ones count


def read_label_file(
    path: Path,
    ledger: Vocabulary,
    model: str,
    *,
    skip_refused: bool = False,
    reading: FileReading = _NOTHING_STATED,
) -> LabelFile:
    """The rows of a file with `prediction_id,label` or `text,label`; both may have `at` and `key`.

    Raises:
        DataError, DependencyUnreachable: the file cannot be read or lacks a column.
        RowsRefused: rows are wrong, and `skip_refused` is not given; it names each line.
    """
    table = read_table(path, _ROLES, reading)
    table.require(("prediction_id", "label"), ("text", "label"))
    known, now = known_labels(ledger, model), datetime.now(UTC)
    bad: list[dict[str, object]] = []
    if "prediction_id" not in table.named:
        examples = labelled_rows(table, now=now, known=known, refused=bad if skip_refused else None)
        return LabelFile(rows=tuple(examples), refused=tuple(bad), unit=table.unit)
    rows: list[FeedbackRow | Example] = []
    for row in table.rows:
        try:
            if row.problem is not None:
                raise DataError(row.problem)  # noqa: TRY301  told like the others
            given = GivenLabel(
                prediction_id=row.fields.get("prediction_id", ""),
                label=row.fields.get("label", ""),
                key=row.fields.get("key"),
                at=row.fields.get("at") or None,
            )
            rows.append(admit_given(given, known=known, now=now, without_zone_is_utc=True))
        except DataError as error:
            bad.append({"row": row.line, "cause": str(error)})
    if not skip_refused:
        refuse_rows(table, bad)
    return LabelFile(rows=tuple(rows), refused=tuple(bad), unit=table.unit)
