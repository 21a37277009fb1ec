"""What a ranking is worth on impressions that it has not learnt, beside the list that everybody gets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from perennial.continual.learning.ranking.events import Event
from perennial.continual.learning.ranking.gram import ItemGram
from perennial.continual.learning.ranking.impressions import events_of
from perennial.continual.learning.ranking.profile import Profile
from perennial.continual.learning.ranking.recommender import Ask, Recommender
from perennial.continual.tasks.ranking import Impression, Ranking

__all__ = ["HeldOutFigures", "measure_held_out"]

_PLACES = 10
_MOST_ROWS = 1_000  # each costs a list


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutFigures:
    """Means over impressions in which something was liked; `popular_` is the list of the most liked items.

    >>> figures = HeldOutFigures(rows=1, ndcg_10=1.0, hit_rate_10=1.0, popular_ndcg_10=0.0, popular_hit_rate_10=0.0,
    ...                          coverage=0.5)
    >>> figures.ndcg_10 - figures.popular_ndcg_10
    1.0
    """

    rows: int
    ndcg_10: float
    hit_rate_10: float
    popular_ndcg_10: float
    popular_hit_rate_10: float
    coverage: float  # share of the catalogue in the lists


def measure_held_out(
    recommender: Recommender,
    sums: ItemGram,
    rows: Sequence[Impression],
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> HeldOutFigures | None:
    """The figures; None where nothing was liked.

    Each list is made of what its user had done before its question: by the sums, and by the rows before it, since a
    click counts in the next list whether or not it is learnt.
    """
    liked = [row for row in rows if any(relevance > 0 for relevance in row.target.values())]
    if not liked:
        return None
    chosen = [liked[place] for place in np.linspace(0, len(liked) - 1, min(len(liked), _MOST_ROWS)).astype(int)]
    names = [item.name for item in recommender.items]
    everybody = [names[place] for place in np.argsort(-recommender.popular, kind="stable")]
    told: dict[str, list[Event]] = {}
    for row in rows:
        told.setdefault(row.input.user, []).extend(events_of(row))
    scores, popular, shown = [], [], set[str]()
    for done, row in enumerate(chosen):
        on_progress(done, len(chosen))
        profile = Profile(user=row.input.user, events=_before(row, sums, told[row.input.user]))
        ask = Ask(count=_PLACES, at=row.input.at, context=row.input.context)
        answer = recommender.rank(ask, profile).items
        shown |= set(answer)
        scores.append(_scored(answer, row))
        unseen = (name for name in everybody if name not in profile.hidden)
        popular.append(_scored([name for name, _ in zip(unseen, range(_PLACES), strict=False)], row))
    on_progress(len(chosen), len(chosen))
    ndcg, hits = np.mean(scores, axis=0)
    popular_ndcg, popular_hits = np.mean(popular, axis=0)
    return HeldOutFigures(
        rows=len(chosen),
        ndcg_10=float(ndcg),
        hit_rate_10=float(hits),
        popular_ndcg_10=float(popular_ndcg),
        popular_hit_rate_10=float(popular_hits),
        coverage=len(shown) / len(names),
    )


def _before(row: Impression, sums: ItemGram, told: Sequence[Event]) -> tuple[Event, ...]:
    """What the user had done before the question, the last event of each item."""
    events = (event for event in (*sums.history(row.input.user), *told) if event.at < row.input.at)
    last = {event.item: event for event in sorted(events, key=lambda event: event.at)}
    return tuple(sorted(last.values(), key=lambda event: (event.at, event.item)))


def _scored(answer: Sequence[str], row: Impression) -> tuple[float, float]:
    """NDCG@10, and whether anything liked is among the ten."""
    hit = any(row.target.get(item, 0.0) > 0 for item in answer[:_PLACES])
    return Ranking().score(answer, row.target), float(hit)
