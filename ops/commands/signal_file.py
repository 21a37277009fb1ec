"""A file of signals: of answered predictions, or of users."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from perennial.continual.errors import DataError
from perennial.continual.preparation import FileReading, Role, read_table, refuse_rows
from perennial.continual.records import Origin
from perennial.ops.store.feedback import AdmittedSignal, GivenSignal, admit_signal

__all__ = ["SignalFile", "read_signal_file"]

_ROLES = (
    Role("prediction_id"),
    Role("user", ("user_id", "userid")),
    Role("item", ("item_id", "itemid")),
    Role("signal", ("event",)),
    Role("value"),
    Role("at", ("timestamp", "ts", "time")),
)
_NOTHING_STATED = FileReading()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalFile:
    """The signals that may be stored, and those that were left out, each with its line and cause."""

    signals: tuple[AdmittedSignal, ...]
    refused: tuple[dict[str, object], ...] = ()
    unit: str = "line"  # what the rows of the refused ones count


def read_signal_file(path: Path, *, skip_refused: bool = False, reading: FileReading = _NOTHING_STATED) -> SignalFile:
    """The rows of a file with `prediction_id,item` or `user,item`; both may have `signal`, `value` and `at`.

    Raises:
        DataError, DependencyUnreachable: the file cannot be read or lacks a column.
        RowsRefused: rows are wrong, and `skip_refused` is not given; it names each line.
    """
    table = read_table(path, _ROLES, reading)
    table.require(("prediction_id", "item"), ("user", "item"))
    now = datetime.now(UTC)
    signals, bad = table.admitted(
        lambda row: admit_signal(_given(row.fields), now=now, origin=Origin.IMPORT, without_zone_is_utc=True)
    )
    if not skip_refused:
        refuse_rows(table, bad)
    return SignalFile(signals=tuple(signals), refused=tuple(bad), unit=table.unit)


def _given(fields: Mapping[str, str]) -> GivenSignal:
    try:
        value = float(fields["value"]) if fields.get("value") else None
    except ValueError:
        raise DataError(f"value is {fields['value']!r}; give a number") from None
    return GivenSignal(
        item=fields.get("item", ""),
        signal=fields.get("signal", "").casefold() or "click",
        value=value,
        prediction_id=fields.get("prediction_id") or None,
        user=fields.get("user") or None,
        at=fields.get("at") or None,
    )
