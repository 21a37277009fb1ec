"""The replies and dialogues of the service benchmark, and embeddings that are made once."""

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import written_whole
from perennial.continual.learning.encoder import Encoder
from perennial.continual.learning.replies import Library, Question, Reply

__all__ = ["Vectors", "read_faq", "read_turns"]

_LENGTH = 256  # tokens: answers are long


class Vectors:
    """Embeddings by text, kept in a folder."""

    def __init__(self, encoder: str, folder: Path) -> None:
        self._encoder, self._folder = encoder, folder
        self._known: dict[str, NDArray[np.float32]] = {}
        self._loaded: Encoder | None = None

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (texts, d), in order."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            digest = hashlib.sha256("\n".join([self._encoder, str(_LENGTH), *new]).encode()).hexdigest()[:24]
            path = self._folder / f"{digest}.npy"
            if not path.is_file():
                self._loaded = self._loaded or Encoder.load(self._encoder, max_length=_LENGTH)
                path.parent.mkdir(parents=True, exist_ok=True)
                with written_whole(path) as temporary, temporary.open("wb") as file:
                    np.save(file, self._loaded.embed(new))
            self._known.update(zip(new, np.load(path), strict=True))
        return np.stack([self._known[text] for text in texts])


def read_faq(path: Path, *, every: int = 1) -> Library:
    """Each different answer as a reply, with its questions."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[::every]
    place: dict[str, Reply] = {}
    for row in rows:
        text = row["answer"]
        place.setdefault(text, Reply(id=f"r{len(place):05}", text=text, intent=row["class"]))
    pairs = dict.fromkeys((place[row["answer"]].id, row["question"]) for row in rows)
    return Library(
        replies=tuple(place.values()), questions=tuple(Question(reply=reply, text=text) for reply, text in pairs)
    )


def read_turns(path: Path, *, every: int = 1) -> list[tuple[str, str, str]]:
    """Dialogue, the user's turn, and the system's next one, where both say something."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["dialogue"], row["user"], row["system"]) for row in csv.DictReader(file)]
    rows = [row for row in rows if row[1].strip() and row[2].strip()]
    return rows[: len(rows) // every]
