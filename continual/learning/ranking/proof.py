"""Lists beside what proved relevant: how good they are, beside everybody's list, on known items and on new ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perennial.continual.intervals import Interval, grouped_interval
from perennial.continual.tasks.ranking import Ranking

__all__ = ["ListProof", "ProvedList", "SegmentProof", "prove_lists"]

_PLACES = 10
_SHOWN_SEGMENTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedList:
    """A user's list, the list that everybody would have got, and how relevant which items proved."""

    user: str
    segment: str
    items: tuple[str, ...]
    popular: tuple[str, ...]
    relevances: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentProof:
    """One segment of users."""

    segment: str
    rows: int
    ndcg_10: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ListProof:
    """Means over lists, each with an interval that draws whole users; cold items are those that nobody had liked.

    `cold_` figures count the rows of which every relevant item was cold, and are None where there is none.
    """

    rows: int
    users: int
    ndcg_10: Interval
    hit_rate_10: Interval
    popular_ndcg_10: float
    popular_hit_rate_10: float
    ahead: Interval  # of everybody's list, NDCG@10
    cold_rows: int
    cold_ndcg_10: float | None
    cold_hit_rate_10: float | None
    segments: tuple[SegmentProof, ...]  # the worst first; where there are several


def prove_lists(lists: Sequence[ProvedList], known: Mapping[str, float], rng: np.random.Generator) -> ListProof | None:
    """What the lists are worth; None where nothing relevant is known.

    Args:
        lists: one a row.
        known: how many users liked each item when the version was made; what is missing is cold.
        rng: of the intervals.

    >>> row = ProvedList(user="u", segment="all", items=("a",), popular=("b",), relevances={"a": 1.0})
    >>> prove_lists([row], {"b": 3.0}, np.random.default_rng(0)).cold_ndcg_10
    1.0
    """
    rows = [row for row in lists if any(worth > 0 for worth in row.relevances.values())]
    if not rows:
        return None
    task = Ranking()
    own = np.array([task.score(row.items, row.relevances) for row in rows])
    popular = np.array([task.score(row.popular, row.relevances) for row in rows])
    hits = np.array([_hit(row.items, row) for row in rows])
    cold = np.array([not any(known.get(item, 0.0) for item, worth in row.relevances.items() if worth) for row in rows])
    _, whose = np.unique([row.user for row in rows], return_inverse=True)
    return ListProof(
        rows=len(rows),
        users=int(whose.max()) + 1,
        ndcg_10=grouped_interval(own, whose, rng),
        hit_rate_10=grouped_interval(hits, whose, rng),
        popular_ndcg_10=float(popular.mean()),
        popular_hit_rate_10=float(np.mean([_hit(row.popular, row) for row in rows])),
        ahead=grouped_interval(own - popular, whose, rng),
        cold_rows=int(cold.sum()),
        cold_ndcg_10=float(own[cold].mean()) if cold.any() else None,
        cold_hit_rate_10=float(hits[cold].mean()) if cold.any() else None,
        segments=_segments(rows, own),
    )


def _hit(items: Sequence[str], row: ProvedList) -> float:
    """1 where anything relevant is among the first ten."""
    return float(any(row.relevances.get(item, 0.0) > 0 for item in items[:_PLACES]))


def _segments(rows: Sequence[ProvedList], own: NDArray[np.float64]) -> tuple[SegmentProof, ...]:
    scores: dict[str, list[float]] = {}
    for row, score in zip(rows, own.tolist(), strict=True):
        scores.setdefault(row.segment, []).append(score)
    if len(scores) < 2:
        return ()
    found = [SegmentProof(segment=name, rows=len(of), ndcg_10=float(np.mean(of))) for name, of in scores.items()]
    return tuple(sorted(found, key=lambda one: (one.ndcg_10, one.segment))[:_SHOWN_SEGMENTS])
