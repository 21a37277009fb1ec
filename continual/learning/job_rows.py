"""The rows of a closed form's job, out of its files, and as its sums take them."""

from collections.abc import Sequence
from dataclasses import dataclass

from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.rows import read_rows
from perennial.continual.learning.selection import HeldOut
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.texts import Texts
from perennial.continual.preparation import deduplicate, row_hash
from perennial.continual.records import Example

__all__ = ["JobRows", "class_rows", "held_out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRows:
    """Different rows by what they are for.

    >>> JobRows(examples=(), replay=(), holdout=(), erase=()).holdout
    ()
    """

    examples: tuple[Example, ...]
    replay: tuple[Example, ...]
    holdout: tuple[Example, ...]
    erase: tuple[Example, ...]

    @classmethod
    def read(cls, spec: JobSpec) -> "JobRows":
        """Those that the spec names."""
        read = {name: deduplicate(read_rows(getattr(spec, name))).examples for name in cls.__dataclass_fields__}
        gone = {row_hash(row.text) for row in read["erase"]}  # what proves a head is learnt after: never an erased row
        read["holdout"] = tuple(row for row in read["holdout"] if row_hash(row.text) not in gone)
        return cls(**read)


def held_out(rows: Sequence[Example], texts: Texts) -> HeldOut:
    """The rows as settings are chosen by."""
    words = tuple(row.text for row in rows)
    return HeldOut(X=texts(words), labels=tuple(row.label for row in rows), texts=words)


def class_rows(rows: Sequence[Example], texts: Texts) -> ClassRows:
    """The rows as closed forms take them, each with its key."""
    words = [row.text for row in rows]
    return ClassRows(
        X=texts(words), labels=[row.label for row in rows], keys=[row_hash(text) for text in words], texts=words
    )
