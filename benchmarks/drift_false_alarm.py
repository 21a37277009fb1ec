"""How often each statistic calls clean data different, beside what Evidently does by default on the same samples."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.statistics import (
    StatisticResult,
    chi_square,
    classifier_auc,
    jensen_shannon,
    ks,
    rff_mmd,
    wasserstein,
)

__all__ = ["evidently_alarms", "rates"]

_SIZES = (100, 300, 1_000, 5_000)
_ALPHA = 0.05
_LEVELS = (2, 10, 77)
_EVIDENTLY_EMBEDDINGS = 100  # looks; its classifier takes a second on 5,000 rows

Pair = tuple[NDArray[Any], NDArray[Any]]
Statistic = Callable[[NDArray[Any], NDArray[Any], np.random.Generator], StatisticResult]


def rates(embeddings: NDArray[np.float32], *, quick: bool) -> Iterator[dict[str, Any]]:
    """Yield one row for each statistic, kind of data and window size; both sides have the window's size."""
    rng = np.random.default_rng(7)
    numeric: dict[str, Statistic] = {
        "ks": lambda a, b, _: ks(a, b),
        "wasserstein": lambda a, b, r: wasserstein(a, b, rng=r, permutations=199),
    }
    categories: dict[str, Statistic] = {
        "chi_square": lambda a, b, r: chi_square(a, b, rng=r, permutations=199),
        "jensen_shannon": lambda a, b, r: jensen_shannon(a, b, rng=r, permutations=199),
    }
    vectors: dict[str, Statistic] = {
        "rff_mmd": lambda a, b, r: rff_mmd(a, b, rng=r, permutations=199),
        "classifier_auc": lambda a, b, r: classifier_auc(a, b, rng=r, permutations=199),
    }
    for size in _SIZES:
        many, few = (60, 10) if quick else (1_000, 1_000)  # enough to tell a rate of 0.05 from 0.075
        yield from _of_kind("lognormal", "num", numeric, _numbers(size, rng), size, many, rng)
        for levels in _LEVELS:
            yield from _of_kind(f"{levels} levels", "cat", categories, _levels(levels, size, rng), size, many, rng)
        yield from _of_kind("MiniLM BANKING77", "emb", vectors, _vectors(embeddings, size, rng), size, few, rng)


def _of_kind(
    data: str,
    evidently: str,
    statistics: dict[str, Statistic],
    draw: Callable[[], Pair],
    size: int,
    repeats: int,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    alarms = dict.fromkeys(statistics, 0)
    theirs = 0
    looks = min(repeats, _EVIDENTLY_EMBEDDINGS) if evidently == "emb" else repeats
    for number in range(repeats):
        reference, current = draw()
        for name, statistic in statistics.items():
            alarms[name] += statistic(reference, current, rng).p_value < _ALPHA
        if number < looks:
            theirs += evidently_alarms(reference, current, evidently)
    for name, count in alarms.items():
        yield {
            "statistic": name,
            "data": data,
            "window": size,
            "alpha": _ALPHA,
            "rate": count / repeats,
            "repeats": repeats,
            "evidently_default_rate": theirs / looks,
            "evidently_repeats": looks,
        }


def evidently_alarms(reference: NDArray[Any], current: NDArray[Any], kind: str) -> bool:
    """Return whether the test that Evidently chooses by itself, at its own threshold, calls the samples different.

    `kind` is `num`, `cat`, or `emb` for rows of an embedding.
    """
    import pandas as pd

    if kind == "emb":
        from evidently.metrics.embeddings import ModelDriftMethod

        np.random.seed(0)  # its classifier draws from the global state
        return bool(ModelDriftMethod()(pd.DataFrame(current), pd.DataFrame(reference))[1])
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType

    sides = (pd.Series(reference), pd.Series(current))
    column = ColumnType(kind)
    test = get_stattest(sides[0], sides[1], column, None)
    return bool(test(sides[0], sides[1], column, None).drifted)


def _numbers(size: int, rng: np.random.Generator) -> Callable[[], Pair]:
    return lambda: (rng.lognormal(size=size), rng.lognormal(size=size))


def _levels(levels: int, size: int, rng: np.random.Generator) -> Callable[[], Pair]:
    names = np.array([f"level {i}" for i in range(levels)])
    chances = np.arange(1, levels + 1) / (levels * (levels + 1) / 2)
    return lambda: (rng.choice(names, size, p=chances), rng.choice(names, size, p=chances))


def _vectors(embeddings: NDArray[np.float32], size: int, rng: np.random.Generator) -> Callable[[], Pair]:
    def draw() -> Pair:
        rows = rng.choice(len(embeddings), 2 * size, replace=False)
        return embeddings[rows[:size]], embeddings[rows[size:]]

    return draw
