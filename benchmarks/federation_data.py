"""Rows of the benchmarks of federation and privacy: texts, classes and embeddings, made once and kept on disk."""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import written_whole
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.encoder import PACKAGED_MINILM, Encoder, fingerprint
from perennial.continual.preparation import row_hash

__all__ = ["Rows", "Split", "read"]

_GOLD = "gold_news.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Labelled texts with their embeddings, (rows, d)."""

    texts: tuple[str, ...]
    labels: NDArray[np.str_]
    X: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.texts)

    def at(self, places: NDArray[np.intp]) -> "Rows":
        """Some of them."""
        return Rows(texts=tuple(self.texts[place] for place in places), labels=self.labels[places], X=self.X[places])

    @property
    def for_sums(self) -> ClassRows:
        """As a closed form takes them."""
        keys = [row_hash(text) for text in self.texts]
        return ClassRows(X=self.X, labels=self.labels.tolist(), keys=keys, texts=self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A set of data: what is learnt, and what it is judged on."""

    name: str
    train: Rows
    test: Rows
    encoder: str


def read(folder: Path, cache: Path) -> Split:
    """BANKING77 as published, or the gold headlines: all but the last 2,400 in time order are learnt.

    A text that is there twice counts once, and one that is in both parts is judged on alone.
    """
    gold = (folder / _GOLD).is_file()
    if gold:
        rows = _pairs(folder / _GOLD, "label")
        parts = [rows[:-2400], rows[-2400:]]
    else:
        parts = [_pairs(folder / f"{name}.csv", "category") for name in ("train", "test")]
    encoder = Encoder.load(PACKAGED_MINILM, threads=2)
    test = dict(parts[1])
    train = {text: label for text, label in parts[0] if text not in test}
    learnt, judged = (_embedded(encoder, one, cache) for one in (train, test))
    return Split(name=folder.name, train=learnt, test=judged, encoder=fingerprint(encoder.folder))


def _pairs(path: Path, column: str) -> list[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list({row["text"]: row[column] for row in csv.DictReader(file)}.items())


def _embedded(encoder: Encoder, rows: dict[str, str], cache: Path) -> Rows:
    texts = tuple(rows)
    name = hashlib.sha256("\n".join([fingerprint(encoder.folder), *texts]).encode()).hexdigest()[:16]
    path = cache / f"embeddings-{name}.npy"
    if not path.exists():
        X = encoder.embed(texts)
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.save(file, X)
    return Rows(texts=texts, labels=np.array(list(rows.values())), X=np.load(path))
