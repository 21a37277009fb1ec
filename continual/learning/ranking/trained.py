"""A trained ranking as a folder: what a learner leaves, an exporter reads, and the next training starts from."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.card import ModelCard, drop_card, read_card
from perennial.continual.learning.ranking.events import Item
from perennial.continual.learning.ranking.gram import ItemGram, Structure
from perennial.continual.learning.ranking.recommender import Blend, Recommender
from perennial.continual.learning.ranking.slots import Bounds, Exploration
from perennial.continual.learning.ranking.text_index import IndexSettings
from perennial.continual.learning.sums import SumsFile
from perennial.continual.learning.trained import STATISTICS_FILE

__all__ = ["BLEND_FILE", "ITEMS_FILE", "STRUCTURE_FILE", "TrainedRanking", "read_blend", "read_items", "write_items"]

ITEMS_FILE, STRUCTURE_FILE, BLEND_FILE = "items.jsonl", "structure.safetensors", "blend.json"
_STRUCTURE = "perennial-item-structure-1"
_TIMES = ("offered_from", "offered_until")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRanking:
    """A catalogue, its structure, how both become scores and lists, and the card; users are in the sums alone."""

    card: ModelCard
    items: tuple[Item, ...]  # an item's number is its place
    structure: Structure
    blend: Blend = field(default_factory=Blend)
    bounds: Bounds = field(default_factory=Bounds)
    exploration: Exploration = field(default_factory=Exploration)
    index: IndexSettings = field(default_factory=IndexSettings)

    def __post_init__(self) -> None:
        known = {item.name for item in self.items}
        if not known or len(known) != len(self.items):
            raise DataError(f"a catalogue of {len(self.items)} items has {len(known)} names; give each item its own")
        if missing := [name for name in self.structure.names if name not in known]:
            raise DataError(f"the catalogue lacks {len(missing)} items of the structure, e.g. {missing[0]!r}; give all")

    def write(self, folder: Path, sums: ItemGram) -> None:
        """Write the folder, with the sums that the structure was solved from; the card, which is its mark, last."""
        folder.mkdir(parents=True, exist_ok=True)
        drop_card(folder)
        write_items(folder / ITEMS_FILE, self.items)
        SumsFile(
            format=_STRUCTURE,
            tensors={"support": self.structure.support, "weights": self.structure.weights},
            about={"names": list(self.structure.names)},
        ).write(folder / STRUCTURE_FILE)
        sums.save(folder / STATISTICS_FILE)
        document = {name: asdict(getattr(self, name)) for name in ("blend", "bounds", "exploration", "index")}
        write_atomically(folder / BLEND_FILE, json.dumps(document, indent=2) + "\n")
        self.card.write(folder)

    @classmethod
    def load(cls, folder: Path) -> "TrainedRanking":
        """What `write` left, without the sums.

        Raises:
            DataError: the folder holds no finished training of a ranking.
        """
        card = read_card(folder)
        kept = SumsFile.read(folder / STRUCTURE_FILE)
        kept.check_format(folder / STRUCTURE_FILE, _STRUCTURE)
        blend, bounds, exploration = read_blend(folder)
        try:
            index = IndexSettings(**json.loads((folder / BLEND_FILE).read_bytes()).get("index", {}))
            structure = Structure(
                names=tuple(kept.about["names"]), support=kept.tensors["support"], weights=kept.tensors["weights"]
            )
        except (KeyError, TypeError, ConfigurationError) as error:
            raise DataError(f"{folder / STRUCTURE_FILE} holds no structure ({error!r}); run the job again") from error
        return cls(
            card=card,
            items=read_items(folder / ITEMS_FILE),
            structure=structure,
            blend=blend,
            bounds=bounds,
            exploration=exploration,
            index=index,
        )

    @staticmethod
    def sums(folder: Path) -> ItemGram:
        """The sums in a folder that `write` left.

        Raises:
            DataError: the file is missing or is not such a file.
        """
        return ItemGram.load(folder / STATISTICS_FILE)

    def recommender(self, sums: ItemGram | None = None) -> Recommender:
        """What makes lists; what came soon after what counts where the sums are given."""
        return Recommender(
            self.structure,
            self.items,
            follows=sums,
            blend=self.blend,
            bounds=self.bounds,
            exploration=self.exploration,
        )


def read_blend(folder: Path) -> tuple[Blend, Bounds, Exploration]:
    """How scores and lists are made, of a folder that `TrainedRanking.write` left or a bundle of it.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = folder / BLEND_FILE
    try:
        document = json.loads(path.read_bytes())
        return Blend(**document["blend"]), Bounds(**document["bounds"]), Exploration(**document["exploration"])
    except (OSError, ValueError, KeyError, TypeError, ConfigurationError) as error:
        raise DataError(f"{path} holds no trained ranking ({error!r}); run the job again") from error


def write_items(path: Path, items: Sequence[Item]) -> None:
    """Write a catalogue, whole or not at all: a JSON object a line, the line's number is the item's place."""
    lines = [json.dumps(_document(item), ensure_ascii=False) + "\n" for item in items]
    write_atomically(path, "".join(lines))


def read_items(path: Path) -> tuple[Item, ...]:
    """The items of a file with a JSON object a line: `name`, and where known `text`, `language` and times.

    Raises:
        DataError: the file is missing, or a line is no item; the message names the line.
    """
    try:
        lines: Iterable[str] = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"items {path} cannot be read ({error}); give a file with a JSON object a line") from error
    return tuple(_item(path, number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _document(item: Item) -> dict[str, Any]:
    """An item's fields that say something, as JSON values."""
    fields: Mapping[str, Any] = asdict(item)
    return {name: value.isoformat() if name in _TIMES else value for name, value in fields.items() if value}


def _item(path: Path, number: int, line: str) -> Item:
    try:
        fields = json.loads(line)
        times = {name: datetime.fromisoformat(fields[name]) for name in _TIMES if fields.get(name)}
        return Item(**fields | times)
    except (ValueError, TypeError, AttributeError, DataError) as error:
        raise DataError(
            f"items {path}, line {number}: {line[:60]!r} is no item ({error}); give name and text"
        ) from error
