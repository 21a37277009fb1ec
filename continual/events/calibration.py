"""From how surprising headlines are one after another when nothing happens: the same ones, in an order by chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from perennial.continual.errors import DataError
from perennial.continual.events.item import Item
from perennial.continual.events.season import orders_within_seasons
from perennial.continual.events.watch import EventSettings, EventWatch

__all__ = ["Calibrated", "calibrate", "limit_for", "surprises"]

_NEVER = 1e9
_TAIL, _LEAST_TAIL = 100, 30  # one of so many scores, and at least so many, show how the largest ones fall off
_DRAWN_ON_BY = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A limit, the false alarms that it allows in so many headlines, and how many of them it was found by."""

    limit: float
    false_alarms_per_headline: float
    headlines: int


def calibrate(
    items: Sequence[Item], settings: EventSettings, *, per_headline: float, shuffles: int, rng: np.random.Generator
) -> Calibrated:
    """The limit that so many headlines in one go beyond where only chance brings them together.

    Raises:
        DataError: they are too few to tell: at least ten false alarms would have to be expected in the base's place.
    """
    scores = surprises(items, settings, shuffles=shuffles, rng=rng)
    return Calibrated(
        limit=limit_for(scores, per_headline=per_headline),
        false_alarms_per_headline=per_headline,
        headlines=len(scores),
    )


def limit_for(scores: Sequence[float], *, per_headline: float) -> float:
    """The surprise that this share of the scores goes beyond.

    Where they are too few to show it, the largest ones are drawn on: a surprise is the logarithm of a chance, so that
    above some height their excesses fall off exponentially.

    Raises:
        DataError: there is one for a thousand that would be needed.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    allowed = per_headline * len(ordered)
    if allowed < _DRAWN_ON_BY:
        raise DataError(
            f"{len(ordered)} surprises are too few for a false alarm in {1 / per_headline:.0f} headlines; wait for "
            "more headlines, or allow more false alarms"
        )
    tail = min(len(ordered) - 1, max(_LEAST_TAIL, len(ordered) // _TAIL))
    if allowed >= tail / 2:
        place = max(1, int(allowed))
        return float((ordered[place - 1] + ordered[min(place, len(ordered) - 1)]) / 2)
    height = float(ordered[tail])
    excess = float(np.mean(ordered[:tail]) - height)
    return height + excess * math.log(tail / allowed)


def surprises(
    items: Sequence[Item], settings: EventSettings, *, shuffles: int, rng: np.random.Generator
) -> list[float]:
    """The scores of the headlines in orders by chance, copies left out, from where the base is half full on.

    Hours and weekdays keep theirs: see `orders_within_seasons`.
    """
    quiet = replace(settings, limit=_NEVER)
    least = max(settings.burst.first_headlines, min(settings.burst.base, len(items)) // 2) + settings.burst.recent
    scores: list[float] = []
    times = [item.at for item in items]
    for _ in range(shuffles):
        watch = EventWatch(quiet)
        for place, index in enumerate(orders_within_seasons(times, rng).tolist()):
            seen = watch.see(replace(items[index], number=place, at=times[place], copy_of=None))
            if place >= least and seen.item.copy_of is None:
                scores.append(seen.surprise.score)
    return scores
