"""A trained ranking on its way into a bundle; see `perennial.exporters.port.Exportable`."""

import shutil
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.continual.learning.card import MODEL_FILE
from perennial.continual.learning.ranking import TrainedRanking, histories
from perennial.continual.learning.ranking.trained import BLEND_FILE, ITEMS_FILE, STRUCTURE_FILE
from perennial.continual.learning.trained import STATISTICS_FILE
from perennial.exporters.built import BuiltEngine
from perennial.exporters.bundle import Manifest
from perennial.exporters.engine import Engine, Inputs
from perennial.exporters.graph import OnnxGraph
from perennial.exporters.port import HeldOut
from perennial.exporters.ranking.answering import RankingAnswerer
from perennial.exporters.ranking.catalogue import Catalogue, item_inputs
from perennial.exporters.ranking.graph import list_lengths, swap_item_graph, write_item_graph
from perennial.exporters.ranking.held_out import read_held_out
from perennial.exporters.ranking.part import RankingPart, digest_names
from perennial.exporters.ranking.signature import PLACES
from perennial.exporters.ranking.ties import ItemTies
from perennial.exporters.signature import EngineSignature

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["RankingExportable"]

_GOLDEN = 8  # rows
_LIKED = 12  # likings of such a row at most


class RankingExportable:
    """A learner's folder, or a bundle's, which has the same files."""

    def __init__(self, folder: Path, trained: TrainedRanking) -> None:
        self.folder, self.trained = folder, trained

    @classmethod
    def load(cls, folder: Path) -> "RankingExportable":
        """Read the card, the items and the structure.

        Raises:
            DataError: the folder holds no trained ranking.
        """
        return cls(folder, TrainedRanking.load(folder))

    @cached_property
    def ties(self) -> ItemTies:
        """The ties, made of structure and sums."""
        return ItemTies.of(self.trained, TrainedRanking.sums(self.folder))

    @property
    def signature(self) -> EngineSignature:
        """With the lengths of the lists."""
        return self._part.signature

    @property
    def encoder_fingerprint(self) -> str:
        """Nothing: it has no encoder."""
        return ""

    @property
    def longest_row(self) -> int:
        """Nothing is padded to a length."""
        return 0

    def sidecars(self, folder: Path) -> None:
        """Items, ties, blend, card, structure and sums."""
        for name in (ITEMS_FILE, BLEND_FILE, MODEL_FILE, STRUCTURE_FILE, STATISTICS_FILE):
            shutil.copyfile(self.folder / name, folder / name)
        self.ties.write(folder)

    def part(self, folder: Path) -> Mapping[str, Any]:
        """See `RankingPart`."""
        return self._part.fields()

    def module(self) -> "Module":
        """Ties summed and sorted, in torch."""
        from perennial.exporters.ranking.module import ItemModule

        return ItemModule(self.ties, known_from=self._known_from, lengths=(self._part.places, self._part.strangers))

    def graph(self, target: Path, module: "Module") -> OnnxGraph:
        """Written as it is, without a tracer."""
        return write_item_graph(self.ties, target, known_from=self._known_from, strangers=self._strangers)

    def swap(self, bundle: Path, manifest: Manifest, folder: Path) -> BuiltEngine:
        """The same graph with new ties; a catalogue of another size has another one."""
        started = time.perf_counter()
        swap_item_graph(
            self.ties,
            folder / manifest.engine_file,
            of=manifest.graph_fingerprint,
            known_from=self._known_from,
            strangers=self._strangers,
        )
        return BuiltEngine.again(manifest, seconds=time.perf_counter() - started)

    def own_arithmetic(self, engine: Engine) -> Engine | None:
        """None: every part of the graph is this model's own."""
        del engine
        return None

    def exact(self, folder: Path | None) -> None:
        """None: it has no encoder."""
        del folder

    def answerer(self, engine: Engine, folder: Path) -> RankingAnswerer:
        """With the catalogue in `folder`."""
        return RankingAnswerer(engine=engine, catalogue=self._catalogue, signature=self.signature)

    def read(self, path: Path, memory: Path | None = None) -> HeldOut:
        """Lists, each with what the sums know of its user by then and, where the file has them, relevances."""
        return read_held_out(path, histories(self.folder / STATISTICS_FILE))

    def calibration(self, folder: Path, inputs: Sequence[Any]) -> Sequence[Sequence[int]]:
        """None: it comes in no low precision."""
        return ()

    def golden(self, folder: Path, seed: int) -> Sequence[Inputs]:
        """Likings drawn by chance, and somebody of whom nothing is known."""
        rng, count = np.random.default_rng(seed), len(self.trained.items)
        rows = [item_inputs({}, np.zeros(0, np.int64), {}, popular=1.0)]
        for size in np.geomspace(1, min(count, _LIKED), _GOLDEN - 1).round().astype(int):
            liked = rng.choice(count, size=size, replace=False)
            weights = rng.random(size).round(3)
            rows.append(item_inputs(dict(zip(liked.tolist(), weights.tolist(), strict=True)), liked, {}))
        return rows

    @property
    def _known_from(self) -> float:
        return self.trained.exploration.known_from

    @property
    def _strangers(self) -> int:
        """Unknown items that may come into a list by exploration, or are passed over because they are in it already."""
        exploration = self.trained.exploration
        return exploration.among + PLACES if exploration.share else 1

    @cached_property
    def _part(self) -> RankingPart:
        items = self.trained.items
        places, strangers = list_lengths(len(items), strangers=self._strangers)
        return RankingPart(items=len(items), places=places, strangers=strangers, names_sha256=digest_names(items))

    @cached_property
    def _catalogue(self) -> Catalogue:
        trained = self.trained
        return Catalogue(
            items=trained.items,
            ties=self.ties,
            blend=trained.blend,
            bounds=trained.bounds,
            exploration=trained.exploration,
        )
