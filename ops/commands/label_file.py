"""A file of labels: of answered predictions, or with texts of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from perennial.continual.errors import DataError, RowsRefused
from perennial.continual.preparation import (
    LABEL,
    FileReading,
    Role,
    labelled_rows,
    read_table,
    refuse_rows,
)
from perennial.continual.records import Example
from perennial.ops.commands.exchange import given_rows, read_exchange
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
    attributes: Sequence[str] = (),
) -> LabelFile:
    """The rows of a file with `prediction_id,label` or `text,label`; both may have `at`, `key` and `attributes`.

    An export of Label Studio or Argilla is read as well; what has no label there is passed over.

    Raises:
        DataError, DependencyUnreachable: the file cannot be read or lacks a column.
        RowsRefused: rows are wrong, and `skip_refused` is not given; it names each line.
    """
    if (tasks := read_exchange(path)) is not None:
        return _exchanged(tasks, path, ledger, model, skip_refused=skip_refused, attributes=attributes)
    table = read_table(path, (*_ROLES, *map(Role, attributes)), reading)
    table.require(("prediction_id", "label"), ("text", "label"))
    known, now = known_labels(ledger, model), datetime.now(UTC)
    if "prediction_id" not in table.named:
        bad: list[dict[str, object]] = []
        examples = labelled_rows(
            table, now=now, known=known, refused=bad if skip_refused else None, attributes=attributes
        )
        return LabelFile(rows=tuple(examples), refused=tuple(bad), unit=table.unit)
    rows, bad = table.admitted(
        lambda row: admit_given(
            _given(row.fields, attributes), known=known, now=now, without_zone_is_utc=True, attributes=attributes
        )
    )
    if not skip_refused:
        refuse_rows(table, bad)
    return LabelFile(rows=tuple(rows), refused=tuple(bad), unit=table.unit)


def _exchanged(
    tasks: Sequence[Any],
    path: Path,
    ledger: Vocabulary,
    model: str,
    *,
    skip_refused: bool,
    attributes: Sequence[str],
) -> LabelFile:
    known, now, rows = known_labels(ledger, model), datetime.now(UTC), list[FeedbackRow | Example]()
    bad: list[dict[str, object]] = []
    for number, given in enumerate(given_rows(tasks, attributes), start=1):
        try:
            if isinstance(given, str):
                raise DataError(given)  # noqa: TRY301  told like the others
            if given is not None:
                rows.append(admit_given(GivenLabel(**given), known=known, now=now, attributes=attributes))
        except DataError as error:
            bad.append({"row": number, "cause": str(error)})
    if bad and not skip_refused:
        told = "; ".join(f"task {row['row']}: {row['cause']}" for row in bad[:5])
        raise RowsRefused(f"{path}: {len(bad)} of {len(tasks)} tasks are wrong: {told}", bad)
    return LabelFile(rows=tuple(rows), refused=tuple(bad), unit="task")


def _given(fields: Mapping[str, str], attributes: Sequence[str]) -> GivenLabel:
    return GivenLabel(
        prediction_id=fields.get("prediction_id", ""),
        label=fields.get("label", ""),
        key=fields.get("key"),
        at=fields.get("at") or None,
        attributes={name: fields.get(name) for name in attributes},
    )


def read_pasted_labels(
    content: str, ledger: Vocabulary, model: str, columns: Mapping[str, str], attributes: Sequence[str] = ()
) -> LabelFile:
    """The rows of a table that was pasted, its columns named by their roles; all of them, or none.

    Raises:
        As `read_label_file`.
    """
    with TemporaryDirectory(prefix="perennial-pasted-") as folder:
        path = Path(folder) / "pasted.csv"
        path.write_text(content, encoding="utf-8")
        reading = FileReading(columns=columns, encoding="utf-8")
        return read_label_file(path, ledger, model, reading=reading, attributes=attributes)
