"""Labelled sets of several languages, each as its own README describes it, split as every benchmark splits it."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from perennial.continual.preparation import clean, deduplicate
from perennial.continual.records import Example

__all__ = ["SETS", "Columns", "Split", "columns_of", "steps_of"]

FIRST, STEP, STREAM = 585, 500, 4205  # rows of a stream: learnt first, learnt after each answered lot, answered in all
_AT = datetime(2026, 1, 1, tzinfo=UTC)
_SHARE = 5  # a fifth of the rows is the test where a set has no file for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Where a set's rows lie.

    `group` is a column whose values stay on one side of the split. A stream has a column `date` and is read in its
    order. `encoder` is what a user of that language would name.
    """

    train: str
    text: str
    label: str
    language: str = "en"
    test: str | None = None
    group: str | None = None
    encoder: str = "packaged:minilm"
    stream: bool = False


SETS: Mapping[str, Columns] = {
    "banking77": Columns(train="train.csv", test="test.csv", text="text", label="category"),
    "gold_news": Columns(train="gold_news.csv", text="text", label="label", stream=True),
    "twitter_fin": Columns(train="sent_train.csv", test="sent_valid.csv", text="text", label="label"),
    "thucnews_titles": Columns(
        train="dev.csv", test="test.csv", text="text", label="category", language="zh", encoder="packaged:e5"
    ),
    "waimai": Columns(train="waimai_10k.csv", text="review", label="label", language="zh", encoder="packaged:e5"),
    "sgd": Columns(train="sgd_test_pairs.csv", text="user", label="intent", group="dialogue"),
}

_OWN = Columns(train="train.csv", test="test.csv", text="text", label="label", language="")

Split = tuple[Sequence[Example], Sequence[Example]]  # what is learnt by then, and what is answered


def columns_of(name: str) -> Columns:
    """Those of a known set; any other folder has `train.csv` and `test.csv` with the columns `text` and `label`."""
    return SETS.get(name, _OWN)


def steps_of(folder: Path, columns: Columns, rows: int = 0) -> list[Split]:
    """A set's steps: one, or in a stream one for each lot of answers; no text is in both parts of a step.

    Args:
        folder: where the set's files lie.
        columns: which they are.
        rows: training rows at most, drawn by chance; 0 is all. A stream is taken as it comes.
    """
    train = _read(folder / columns.train, columns)
    if columns.stream:
        lots = range(FIRST, min(FIRST + STREAM, len(train)), STEP)
        given = [example for example, _ in train[: FIRST + STREAM]]
        return [(given[:start], given[start : start + STEP]) for start in lots]
    order = np.random.default_rng(0).permutation(len(train))
    shuffled = [train[place] for place in order]
    if columns.test is not None:
        test = [example for example, _ in _read(folder / columns.test, columns)]
        taken = {row.text for row in test}
        learnt = [example for example, _ in shuffled if example.text not in taken]
    else:
        groups = sorted({group for _, group in shuffled})
        drawn = {groups[place] for place in np.random.default_rng(0).permutation(len(groups))[: len(groups) // _SHARE]}
        test = [example for example, group in shuffled if group in drawn]
        learnt = [example for example, group in shuffled if group not in drawn]
    return [(learnt[: rows or None], test)]


def _read(path: Path, columns: Columns) -> list[tuple[Example, str]]:
    """Different rows in the order of the file, or of time, and the group of each; alone where the set has none."""
    with path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    if columns.stream:
        read.sort(key=lambda row: row["date"])
    found = [
        (Example(text=clean(row[columns.text]), label=row[columns.label], at=_AT), row.get(columns.group or ""))
        for row in read
        if clean(row[columns.text])
    ]
    group = {example.text: group for example, group in reversed(found)}
    return [
        (example, group[example.text] or example.text)
        for example in deduplicate([example for example, _ in found]).examples
    ]
