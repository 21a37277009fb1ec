"""What a manifest says of a ranking beside what it says of every bundle, and whether the files agree."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perennial.continual.errors import BundleRejected, DataError
from perennial.continual.learning.ranking import Item
from perennial.continual.learning.ranking.trained import BLEND_FILE, ITEMS_FILE, read_items
from perennial.exporters.ranking.signature import ASK_ENGINE
from perennial.exporters.ranking.ties import TIES_FILE, ItemTies
from perennial.exporters.signature import EngineSignature
from perennial.exporters.tasks import read_part

__all__ = ["RankingPart", "check_catalogue", "digest_names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingPart:
    """How many items there are, how many a row gets of them and of unknown ones, and which stand where."""

    items: int
    places: int
    strangers: int
    names_sha256: str

    def __post_init__(self) -> None:
        if not 1 <= self.places <= self.items or not 1 <= self.strangers <= self.items:
            raise BundleRejected(
                f"a ranking's places {self.places} and strangers {self.strangers} must be 1 to its {self.items} items; "
                "export the version again"
            )

    @classmethod
    def read(cls, part: Mapping[str, Any]) -> "RankingPart":
        """What a ranking's manifest holds as `part`.

        Raises:
            BundleRejected: a field is missing, surplus or of the wrong kind.
        """
        return read_part(cls, part)

    @property
    def signature(self) -> EngineSignature:
        """The engine's, with these sizes."""
        return ASK_ENGINE.bound(places=self.places, strangers=self.strangers)

    def fields(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return asdict(self)


def digest_names(items: Sequence[Item]) -> str:
    """A fingerprint of the catalogue, order included: number i of an engine means item i."""
    return hashlib.sha256(json.dumps([item.name for item in items], ensure_ascii=False).encode()).hexdigest()


def check_catalogue(folder: Path, part: Mapping[str, Any], files: Collection[str]) -> None:
    """Compare items and ties with the manifest.

    Raises:
        BundleRejected: they do not agree.
    """
    promised = RankingPart.read(part)
    if missing := [name for name in (ITEMS_FILE, TIES_FILE, BLEND_FILE) if name not in files]:
        raise BundleRejected(f"{folder}: the manifest names no {missing[0]}; export the version again")
    try:
        items, ties = read_items(folder / ITEMS_FILE), ItemTies.read(folder)
    except DataError as exc:
        raise BundleRejected(f"{folder}: {exc}") from exc
    if not len(items) == ties.items == promised.items or digest_names(items) != promised.names_sha256:
        raise BundleRejected(
            f"{folder}: {ITEMS_FILE} has {len(items)} items and {TIES_FILE} {ties.items}; "
            f"they are not the {promised.items} of the manifest"
        )
