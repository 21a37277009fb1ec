"""A file of verdicts on answers to customers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from perennial.continual.preparation import FileReading, KnownLabels, Role, read_table, refuse_rows
from perennial.continual.records import Origin
from perennial.ops.store.feedback import AdmittedVerdict, GivenVerdict, admit_verdict

__all__ = ["VerdictFile", "read_verdict_file"]

_FIELDS = ("prediction_id", "verdict", "reply", "text", "intent", "at")
_ROLES = (
    Role("prediction_id"),
    Role("verdict", ("outcome",)),
    Role("reply", ("reply_id",)),
    Role("text", ("sent",)),
    Role("intent", ("label",)),
    Role("at", ("timestamp", "ts", "time")),
)
_NOTHING_STATED = FileReading()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictFile:
    """The verdicts that may be stored, and those that were left out, each with its line and cause."""

    verdicts: tuple[AdmittedVerdict, ...]
    refused: tuple[dict[str, object], ...] = ()
    unit: str = "line"


def read_verdict_file(
    path: Path, *, known: KnownLabels, skip_refused: bool = False, reading: FileReading = _NOTHING_STATED
) -> VerdictFile | None:
    """The rows of a file with `prediction_id,verdict`; None where it has no column of verdicts.

    Raises:
        DataError, DependencyUnreachable: the file cannot be read or lacks a column.
        RowsRefused: rows are wrong, and `skip_refused` is not given; it names each line.
    """
    table = read_table(path, _ROLES, reading)
    if "verdict" not in table.named:
        return None
    table.require(("prediction_id", "verdict"))
    now = datetime.now(UTC)
    verdicts, bad = table.admitted(
        lambda row: admit_verdict(
            _given(row.fields), known=known, now=now, origin=Origin.IMPORT, without_zone_is_utc=True
        )
    )
    if not skip_refused:
        refuse_rows(table, bad)
    return VerdictFile(verdicts=tuple(verdicts), refused=tuple(bad), unit=table.unit)


def _given(fields: Mapping[str, str]) -> GivenVerdict:
    return GivenVerdict(**{name: fields.get(name) or None for name in _FIELDS})
