"""What became of a version's lists: whether something of them was liked, and how well known that had been."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.learning.ranking.trained import ITEMS_FILE, read_items
from perennial.continual.off_policy import Choice
from perennial.continual.tasks.ranking import Ranking
from perennial.exporters.ranking.asked import Asked
from perennial.exporters.ranking.ties import ItemTies

__all__ = ["ListOutcomes"]

_FEW, _MANY, _HEAVY = 5, 20.0, 0.9  # events of a new user, of a heavy one at least, and above whose share
_NOBODY_TOLD = float("nan")


class ListOutcomes:
    """How popular each item was when a version learnt; an item that it has never heard of was liked by nobody.

    >>> outcomes = ListOutcomes({"tea": 3.0, "cup": 1.0, "mug": 0.0})
    >>> told = outcomes.columns(['["tea", "mug"]', '["cup"]'], ['{"mug": 1.0}', None])
    >>> told["hits"], told["new_items"][0]
    ([1.0, nan], 1.0)
    """

    def __init__(self, liked_by: Mapping[str, float]) -> None:
        self._liked_by = dict(liked_by)
        self._sorted: NDArray[np.float64] = np.sort(np.array(list(liked_by.values()), dtype=np.float64))

    @classmethod
    def read(cls, bundle: Path) -> "ListOutcomes":
        """Those of a version's bundle.

        Raises:
            DataError: a file is missing or damaged.
        """
        known = ItemTies.read(bundle).known.tolist()
        return cls({item.name: users for item, users in zip(read_items(bundle / ITEMS_FILE), known, strict=True)})

    def is_new(self, item: str) -> bool:
        """Whether nobody had liked it when the version learnt."""
        return not self._liked_by.get(item, 0.0)

    def columns(self, answers: Sequence[str], targets: Sequence[str | None]) -> Mapping[str, Sequence[float]]:
        """Of each answer: whether something shown was liked; of what was liked, how popular it had been, and if new.

        An answer of which nobody told anything has NaN alone: whether that is no hit, its neighbours tell.
        Popularity is the share of the catalogue that fewer users had liked, on average over what was liked.
        """
        task = Ranking()
        found: dict[str, list[float]] = {"hits": [], "popularities": [], "new_items": []}
        for kept, target in zip(answers, targets, strict=True):
            relevances = {} if target is None else task.read_target(target)
            liked = [item for item, relevance in relevances.items() if relevance > 0]
            shown = task.shown(task.read_answer(kept))
            found["hits"].append(_NOBODY_TOLD if target is None else float(any(item in shown for item in liked)))
            found["popularities"].append(self._popularity(liked))
            found["new_items"].append(float(any(map(self.is_new, liked))) if liked else _NOBODY_TOLD)
        return found

    def parts(self, inputs: Sequence[Asked], targets: Sequence[Mapping[str, float]]) -> Mapping[str, Sequence[bool]]:
        """New users, the tenth of all lists whose users had done most, and lists for which something new was right."""
        done = np.array([len(one.known.events) for one in inputs])
        many = max(_MANY, float(np.quantile(done, _HEAVY))) if len(done) else _MANY
        return {
            "new users": (done < _FEW).tolist(),
            "heavy users": (done >= many).tolist(),
            "cold items": [
                any(relevance > 0 and self.is_new(item) for item, relevance in target.items()) for target in targets
            ],
        }

    @property
    def choice_columns(self) -> Sequence[str]:
        """List and propensities."""
        return ("prediction", "propensities")

    def choice(self, logged: Mapping[str, Any], target: str | None) -> Choice | None:
        """The first place; None of an empty list."""
        items, propensities = Ranking().read_answer(logged["prediction"]), json.loads(logged["propensities"])
        if not items or not propensities or not propensities[0] > 0:
            return None
        liked = {} if target is None else Ranking().read_target(target)
        return Choice(items[0], min(1.0, liked.get(items[0], 0.0)), float(propensities[0]))

    def chosen(self, kept: str) -> str:
        """The first item; nothing of an empty list."""
        return next(iter(Ranking().read_answer(kept)), "")

    def _popularity(self, liked: Sequence[str]) -> float:
        if not liked:
            return _NOBODY_TOLD
        users = [self._liked_by.get(item, 0.0) for item in liked]
        return float(np.searchsorted(self._sorted, users, side="left").mean()) / max(1, len(self._sorted))
