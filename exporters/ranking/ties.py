"""What a version's engine is made of: the strongest ties of each item, and who is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking import ItemGram, Neighbours, TrainedRanking
from perennial.continual.learning.sums import SumsFile

__all__ = ["TIES_FILE", "ItemTies"]

TIES_FILE = "ties.safetensors"
_TELLING = 64  # ties of an item that a bundle keeps beside its engine, to tell reasons by
_LEAST, _CELLS = 64, 8_000_000  # ties of an item in an engine; of all items together, 64 MB
_FORMAT = "perennial-item-ties-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTies:
    """The ties of a catalogue, and how many users liked each item, weighted (items,).

    An engine has all ties of a small catalogue, and the strongest ones of a large one.
    """

    neighbours: Neighbours
    known: NDArray[np.float64]

    @classmethod
    def of(cls, trained: TrainedRanking, sums: ItemGram, *, cells: int = _CELLS) -> "ItemTies":
        """Those of a trained ranking: of its structure, its texts, and what came soon after what; about so many."""
        model = trained.recommender(sums)
        rows = len(model.items) * (2 if model.has_sequels else 1)
        return cls(neighbours=Neighbours.of(model, max(_LEAST, cells // rows), trained.index), known=model.known)

    @property
    def items(self) -> int:
        """Of the catalogue."""
        return len(self.known)

    @property
    def has_sequels(self) -> bool:
        """Whether each liked item has a second row, of what came soon after it."""
        return len(self.neighbours.places) > self.items

    def unknown(self, known_from: float) -> NDArray[np.bool_]:
        """Which items fewer users liked than make one known (items,)."""
        found: NDArray[np.bool_] = self.known < known_from
        return found

    def write(self, folder: Path) -> None:
        """Write the file of a bundle, whole or not at all: the ties that reasons are told by."""
        ties = self.neighbours.strongest(_TELLING)
        tensors: Mapping[str, NDArray[Any]] = {
            "places": ties.places,
            "values": ties.values,
            "popular": ties.popular,
            "known": self.known,
        }
        SumsFile(format=_FORMAT, tensors=tensors, about={}).write(folder / TIES_FILE)

    @classmethod
    def read(cls, folder: Path) -> "ItemTies":
        """What `write` left; no engine can be made of it.

        Raises:
            DataError: the file is missing or is not such a file.
        """
        kept = SumsFile.read(folder / TIES_FILE)
        kept.check_format(folder / TIES_FILE, _FORMAT)
        try:
            ties = Neighbours(**{name: kept.tensors[name] for name in ("places", "values", "popular")})
            return cls(neighbours=ties, known=kept.tensors["known"])
        except (KeyError, TypeError) as error:
            raise DataError(f"{folder / TIES_FILE} holds no ties ({error!r}); export the version again") from error
