"""What a file of the log says of its format, and how rows of an older format become rows of this one.

Format 1 said nothing. It called the model's answer `label`, and its first files had no `redacted`. Format 3 has what
`_LATER` lists, which is nothing in the rows of earlier files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from perennial.continual.errors import ConfigurationError
from perennial.continual.preparation.personal import PLACEHOLDERS
from perennial.continual.task import PREDICTION
from perennial.continual.tasks import DEFAULT_TASK, TASKS, task_named

__all__ = ["FORMAT", "FileFormat"]

FORMAT = 3
_FORMAT, _TASK = b"perennial.format", b"perennial.task"
_FIRST_NAMES = {PREDICTION: "label"}  # what format 1 called a column
_LATER: Mapping[str, tuple[int, pa.DataType]] = {"known": (3, pa.bool_())}  # in which format a column came


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFormat:
    """The format of one file, and the task whose columns it has.

    >>> FileFormat.of(None).stored_name("prediction"), FileFormat().stored_name("prediction")
    ('label', 'prediction')
    """

    number: int = FORMAT
    task: str = DEFAULT_TASK

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes] | None) -> Self:
        """The format that a schema's or a footer's metadata tells.

        Raises:
            ConfigurationError: a later release wrote the file.
            ValueError: the metadata makes no sense.
        """
        fields = metadata or {}
        number = int(fields.get(_FORMAT, b"1"))
        if number < 1:
            raise ValueError(f"it states the format {number}; the first is 1")
        if number > FORMAT:
            raise ConfigurationError(
                f"a file of the traffic log has format {number}; this release reads up to {FORMAT}: upgrade perennial, "
                "or move the file out of the log's folders"
            )
        task = fields.get(_TASK, DEFAULT_TASK.encode()).decode(errors="replace")
        if task not in TASKS:  # of this format every task is known, so the bytes are not those that were written
            raise pa.ArrowInvalid(f"it states the task {task!r}, which is unknown; use one of {', '.join(TASKS)}")
        return cls(number=number, task=task)

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """What a file written now says."""
        return {_FORMAT: str(FORMAT).encode(), _TASK: self.task.encode()}

    def stored_name(self, name: str) -> str:
        """What the file calls a column."""
        return _FIRST_NAMES.get(name, name) if self.number == 1 else name

    def lacks(self, name: str, stored: Sequence[str]) -> bool:
        """Whether the file, which has these columns, may be without this one and is."""
        came = _LATER[name][0] if name in _LATER else 2 if name == "redacted" else 1
        return self.number < came and name not in stored

    def updated(self, table: pa.Table) -> pa.Table:
        """The table as this release would have written it; where `redacted` is missing, the texts tell it.

        What came later is added as nothing where the task has it, behind all that is there.

        Whether such an old text was changed can only be told by its placeholders. A caller who wrote one himself
        counts as redacted, which costs evidence and never shows data.
        """
        if self.number == 1:
            names = {old: new for new, old in _FIRST_NAMES.items()}
            table = table.rename_columns([names.get(name, name) for name in table.column_names])
            if "redacted" not in table.column_names and "text" in table.column_names:
                redacted = reduce(pc.or_, (pc.match_substring(table["text"], each) for each in PLACEHOLDERS))
                table = table.append_column(pa.field("redacted", pa.bool_(), nullable=False), redacted)
        for name, (came, kind) in _LATER.items():
            if self.number < came and name in task_named(self.task).log_columns and name not in table.column_names:
                table = table.append_column(pa.field(name, kind), pa.nulls(table.num_rows, kind))
        return table.replace_schema_metadata(self.metadata)
