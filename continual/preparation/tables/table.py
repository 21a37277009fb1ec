"""What a file's rows look like once they are read, and how its user may help to read it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from perennial.continual.errors import DataError, RowsRefused

__all__ = ["MOST_ROWS", "FileReading", "OnRows", "Table", "TableRow", "quoted", "refuse_rows"]

MOST_ROWS = 5_000_000  # of one file; they are held in memory
_LISTED = 5
_SHOWN_CHARACTERS = 40
_SHOWN_NAMES = 12
_ROWS_AT_ONCE = 1_000
T = TypeVar("T")
OnRows = Callable[[int, int], None]
_LIKELY = {
    "text": ("sentence", "message", "utterance", "query", "question", "content", "body", "title", "review", "comment"),
    "label": ("class", "topic", "target", "tag", "sentiment", "label_text", "label_name"),
    "prediction_id": ("id", "prediction", "predictionid"),
    "description": ("sentence", "text", "meaning"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReading:
    """What the user states of a file; what is not stated is found out from the file itself.

    `columns` says which column of the file plays a role: `{"text": "Body"}`. `on_rows` is told now and then how many of
    its rows are through, and how many there are.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    on_rows: OnRows | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One row by role; `problem` tells why its fields cannot be told apart, if they cannot."""

    line: int
    fields: Mapping[str, str]
    width: int  # how many fields it has in all
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A file's rows, its columns as it writes them, and which column plays which role."""

    source: str  # as messages name it
    columns: tuple[str, ...]
    named: Mapping[str, str]
    rows: tuple[TableRow, ...]
    unit: str = "line"  # what `TableRow.line` counts: lines of text, or rows of a sheet
    on_rows: OnRows | None = field(default=None, compare=False)  # see `FileReading`

    def admitted(self, admit: Callable[[TableRow], T]) -> tuple[list[T], list[dict[str, object]]]:
        """What `admit` makes of the rows, and those that it or the reader refuses, each with its line and cause."""
        made: list[T] = []
        refused: list[dict[str, object]] = []
        for number, row in enumerate(self.rows):
            if self.on_rows is not None and number % _ROWS_AT_ONCE == 0:
                self.on_rows(number, len(self.rows))
            try:
                if row.problem is not None:
                    raise DataError(row.problem)  # noqa: TRY301  told like the others
                made.append(admit(row))
            except DataError as error:
                refused.append({"row": row.line, "cause": str(error)})
        return made, refused

    def require(self, *ways: Sequence[str]) -> None:
        """See to it that the file has all roles of one of these ways.

        Raises:
            DataError: it has not; the message offers the file's own names.
        """
        if any(all(role in self.named for role in way) for way in ways):
            return
        needs = ", or ".join(" and ".join(map(repr, way)) for way in ways)
        way = min(ways, key=lambda way: sum(role not in self.named for role in way))
        free = [name for name in self.columns if name not in self.named.values()]
        flags = []
        for role in (role for role in way if role not in self.named):
            likely = _likely(role, free)
            flags.append(f"--column {role}={_for_shell(likely)}")
            free = [name for name in free if name != likely]
        header = "" if self.named else f"; if its first {self.unit} is no header, put one above it: {','.join(ways[0])}"
        also = " ('category' and 'intent' also name the label)" if "label" in way else ""
        raise DataError(
            f"{self.source} has the columns {offered(self.columns)}; it needs the columns {needs}{also}; rename one, "
            f"or say which it is, for example: {' '.join(flags)}{header}"
        )


def refuse_rows(table: Table, bad: Sequence[Mapping[str, object]]) -> None:
    """Raises RowsRefused that names the first wrong rows, where there are any."""
    if not bad:
        return
    listed = "; ".join(f"{table.unit} {row['row']}: {row['cause']}" for row in bad[:_LISTED])
    if len(bad) == 1:
        raise RowsRefused(f"{table.source} {listed}", bad)
    more = f"; and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
    raise RowsRefused(f"{table.source}: {len(bad)} of {len(table.rows)} rows are wrong: {listed}{more}", bad)


def quoted(value: str, *, most: int = _SHOWN_CHARACTERS) -> str:
    r"""A name out of a file as a message may show it: short, on one line, any script, nothing that acts on a terminal.

    >>> print(quoted("\u6587\u672c\u202e"))
    '文本\u202e'
    """
    return repr(value if len(value) <= most else f"{value[: most - 3]}...")


def offered(names: Sequence[str]) -> str:
    """The names of a file to choose from.

    >>> offered(["Body", "Topic"])
    "'Body', 'Topic'"
    """
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return (", ".join(map(quoted, names[:_SHOWN_NAMES])) or "none") + more


def _likely(role: str, names: Sequence[str]) -> str:
    """The column that most likely plays the role."""
    known = _LIKELY.get(role, ())
    folded = {name.strip().casefold(): name for name in reversed(names)}
    return next((folded[name] for name in known if name in folded), "NAME" if not names else names[0])


def _for_shell(name: str) -> str:
    return name if name.isidentifier() else quoted(name)
