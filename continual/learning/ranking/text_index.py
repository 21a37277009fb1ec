"""The nearest texts of each item without looking at all of them: what a million items need, for a measured loss."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DependencyUnreachable, ExportFailed
from perennial.continual.learning.ranking.item_texts import ItemTexts

__all__ = ["IndexSettings", "TextIndex"]

logger = logging.getLogger(__name__)

_SPARE = 4  # times as many candidates as are wanted: common words are left out at first, and counted at last
_SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 1.0)  # of the items: what more of them have is a common word
_TOP, _SAMPLE, _AT_ONCE = 10, 200, 2_048
_CLOSE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """Whether the nearest texts are looked up in an approximate index; the default looks at all of them.

    >>> IndexSettings().on
    False
    """

    on: bool = False
    recall: float = 0.95  # of the ten nearest texts, over a sample; an export that finds fewer is refused
    from_items: int = 20_000  # of fewer items all are looked at

    def __post_init__(self) -> None:
        if not 0.0 < self.recall <= 1.0 or self.from_items < 1:
            raise ConfigurationError(f"{self}: recall must lie above 0 and up to 1, from_items be 1 or more")


class TextIndex:
    """For each word the items that have it, of which those of the rarer words are looked at.

    Most items share a common word, and it says little. So an item's candidates are those that its rarer words find.
    They are then compared by all of their words, so that a value is exact and only a neighbour can be missed.

    Source: Buckley and Lewit 1985, "Optimization of inverted vector searches", for leaving out common words.

    Args:
        texts: of the catalogue.
        wanted: neighbours of an item.
        settings: how many of the nearest must be found; the rarest words that find so many are taken.
        seed: of the sample.

    Raises:
        DependencyUnreachable: sparse_dot_topn is not installed.
        ExportFailed: enough of the nearest are not found even so.
    """

    def __init__(self, texts: ItemTexts, wanted: int, settings: IndexSettings, *, seed: int = 0) -> None:
        self._topn = _product()
        self._texts, self._wanted = texts, wanted
        self._threads = len(os.sched_getaffinity(0))
        self.recall, self.share = 1.0, 1.0
        self._of_word = texts.rows.T.tocsr()  # (words, items)
        self._items_of = np.diff(self._of_word.indptr)
        self._choose(np.random.default_rng(seed), settings)

    def nearest(self, places: Sequence[int]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[Any]]]:
        """In parts: places, cosines with their nearest texts, the nearest first, and where these stand (rows, wanted).

        Where fewer are found the rest is 0.
        """
        for part in _parts(np.asarray(places, dtype=np.int64), _AT_ONCE):
            yield part, *self._nearest(part)

    def _nearest(self, places: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        rows = self._texts.rows
        asked = rows[places].copy()
        asked.data *= self._items_of[asked.indices] <= self.share * rows.shape[0]
        asked.eliminate_zeros()
        most = _SPARE * self._wanted
        found = self._topn(asked, self._of_word, top_n=most, n_threads=self._threads)
        many = np.diff(found.indptr)
        where, there = np.zeros((len(places), most), np.int64), np.arange(most) < many[:, None]
        where[there] = found.indices
        own = rows[np.repeat(places, many)]
        alike = np.zeros(where.shape, dtype=np.float32)
        alike[there] = np.asarray(own.multiply(rows[found.indices]).sum(axis=1), dtype=np.float32).ravel()
        order = np.argsort(-alike, axis=1, kind="stable")[:, : self._wanted]
        values = np.take_along_axis(alike, order, axis=1)
        return values, np.take_along_axis(where, order, axis=1).astype(np.int32)

    def _choose(self, rng: np.random.Generator, settings: IndexSettings) -> None:
        weights = self._texts.rows @ np.ones(self._texts.rows.shape[1], dtype=np.float32)
        told = np.flatnonzero(weights)  # items with words that tell something
        sample = np.sort(rng.permutation(told)[:_SAMPLE])
        if not len(sample):
            return
        parts = [self._least(part) for part in _parts(sample, 16)]
        least, near = (np.concatenate(each) for each in zip(*parts, strict=True))
        for self.share in _SHARES:
            found = np.concatenate([values for _, values, _ in self.nearest(sample.tolist())])
            hits = np.minimum((found >= least[:, None] - _CLOSE).sum(axis=1), near)
            self.recall = float((hits / near).mean())
            logger.info("ties.indexed", extra={"items": len(told), "share": self.share, "recall": self.recall})
            if self.recall >= settings.recall:
                return
        raise ExportFailed(
            f"the index finds {self.recall:.3f} of the {_TOP} nearest texts (limit {settings.recall}); lower "
            "index.recall, or set index.on = false to look at all of them"
        )

    def _least(self, places: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The cosine of each one's tenth nearest text, or of its last one that is near at all, and how many these are.

        Each is among its own. All texts are looked at (places,).
        """
        alike = self._texts.similarity(places.tolist())
        most = min(_TOP, self._wanted, alike.shape[1])
        nearest = -np.partition(-alike, most - 1, axis=1)[:, :most]
        near = nearest > _CLOSE
        return np.where(near, nearest, np.float32(np.inf)).min(axis=1), near.sum(axis=1)


def _parts(places: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    return (places[start : start + size] for start in range(0, len(places), size))


def _product() -> Any:
    try:
        from sparse_dot_topn import sp_matmul_topn
    except ImportError as exc:
        raise DependencyUnreachable(
            f"the index of items needs sparse_dot_topn, which cannot be imported ({exc}); "
            "pip install 'perennial-serving[index]'"
        ) from exc
    return sp_matmul_topn
