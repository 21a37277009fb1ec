"""A file of labels: of answered predictions, or with texts of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

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

__all__ = ["LabelFile", "read_label_file", "read_pasted_labels"]

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
    if "prediction_id" not in table.named:
        bad: list[dict[str, object]] = []
        examples = labelled_rows(table, now=now, known=known, refused=bad if skip_refused else None)
        return LabelFile(rows=tuple(examples), refused=tuple(bad), unit=table.unit)
    rows, bad = table.admitted(
        lambda row: admit_given(_given(row.fields), known=known, now=now, without_zone_is_utc=True)
    )
    if not skip_refused:
        refuse_rows(table, bad)
    return LabelFile(rows=tuple(rows), refused=tuple(bad), unit=table.unit)


def _given(fields: Mapping[str, str]) -> GivenLabel:
    return GivenLabel(
        prediction_id=fields.get("prediction_id", ""),
        label=fields.get("label", ""),
        key=fields.get("key"),
        at=fields.get("at") or None,
    )


def read_pasted_labels(content: str, ledger: Vocabulary, model: str, columns: Mapping[str, str]) -> LabelFile:
    """The rows of a table that was pasted, its columns named by their roles; all of them, or none.

    Raises:
        As `read_label_file`.
    """
    with TemporaryDirectory(prefix="perennial-pasted-") as folder:
        path = Path(folder) / "pasted.csv"
        path.write_text(content, encoding="utf-8")
        return read_label_file(path, ledger, model, reading=FileReading(columns=columns, encoding="utf-8"))
