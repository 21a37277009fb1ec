"""Who is shown: how many items, how evenly, and how much of it goes to those that are popular anyway."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perennial.continual.errors import DataError

__all__ = ["Exposure", "measure_exposure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What a set of lists shows of a catalogue.

    >>> measure_exposure([("a", "b"), ("a", "c")], {"a": 9.0, "b": 1.0, "c": 0.0, "d": 0.0}).coverage
    0.75
    """

    coverage: float  # share of the catalogue that was shown at all
    gini: float  # 0: every item as often as each other; towards 1: all places to few
    popular_share: float  # share of places that went to the most liked hundredth
    unknown_share: float  # share of places that went to items that nobody had liked


def measure_exposure(lists: Sequence[Sequence[str]], liked_by: Mapping[str, float]) -> Exposure:
    """What lists show of a catalogue, given by how many users liked each of its items.

    Raises:
        DataError: no item was shown, or one is not in the catalogue.
    """
    shown = Counter(item for one in lists for item in one)
    if not shown or not shown.keys() <= liked_by.keys():
        strange = next(iter(shown.keys() - liked_by.keys()), None)
        raise DataError(f"{len(shown)} items were shown, {strange!r} not in the catalogue; give the whole catalogue")
    places = shown.total()
    times = np.sort(np.array([shown[item] for item in liked_by], dtype=np.float64))
    ranks = np.arange(1, len(times) + 1)
    popular = sorted(liked_by, key=lambda item: (-liked_by[item], item))[: max(1, len(liked_by) // 100)]
    return Exposure(
        coverage=len(shown) / len(liked_by),
        gini=float((2 * ranks - len(times) - 1) @ times / (len(times) * times.sum())),
        popular_share=sum(shown[item] for item in popular) / places,
        unknown_share=sum(times for item, times in shown.items() if not liked_by[item]) / places,
    )
