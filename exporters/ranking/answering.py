"""An engine with the catalogue of its version: lists that are asked for in, items out."""

from collections.abc import Sequence

import numpy as np

from perennial.continual.tasks.ranking import Query
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.port import Answerer
from perennial.exporters.ranking.asked import Asked, asked_of
from perennial.exporters.ranking.catalogue import Catalogue, item_inputs
from perennial.exporters.ranking.signature import RANKED
from perennial.exporters.signature import EngineSignature

__all__ = ["RankingAnswerer"]

_LONG = 200  # likings


class RankingAnswerer:
    """See `perennial.exporters.port.Answerer`."""

    task = "ranking"

    def __init__(self, *, engine: Engine, catalogue: Catalogue, signature: EngineSignature) -> None:
        self.engine, self.catalogue, self.signature = engine, catalogue, signature

    def encode(self, inputs: Sequence[Asked | Query]) -> Inputs:
        """What was liked, what is hidden, and what words add."""
        return self.catalogue.encode(asked_of(inputs))

    def edges(self, inputs: Sequence[Asked | Query]) -> dict[str, Inputs]:
        """Nobody, somebody who likes everything, and somebody to whom nothing may be shown."""
        count, rows = self.catalogue.ties.items, len(self.catalogue.ties.neighbours.places)
        liked = dict.fromkeys(range(rows - 1, max(-1, rows - 1 - _LONG), -1), 1.0)
        nothing = np.zeros(0, np.int64)
        return {
            "a user of whom nothing is known": item_inputs({}, nothing, {}, popular=1.0),
            "a user with a long history": item_inputs(liked, nothing, {0: 1.0, count - 1: -1.0}),
            "a user to whom nothing may be shown": item_inputs({0: 1.0}, np.arange(count), {}),
        }

    def answers(self, outputs: Outputs) -> list[tuple[str, ...]]:
        """The best items of each row."""
        items = self.catalogue.items
        return [tuple(items[place].name for place in row if place >= 0) for row in outputs[RANKED].tolist()]

    def unlike(self, other: Answerer) -> list[str]:
        """Items that stand at another number."""
        if not isinstance(other, RankingAnswerer) or other.catalogue.items == self.catalogue.items:
            return []
        mine, theirs = self.catalogue.items, other.catalogue.items
        moved = sum(a != b for a, b in zip(theirs, mine, strict=False)) + abs(len(theirs) - len(mine))
        return [f"{moved} of {len(theirs)} items are others than in the model"]
