"""The arms of the recommendation benchmark that are made of the product's own classes."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ranking_stream import Ratings, Stream, rank_of, scored_places
from perennial.continual.learning.ranking import (
    Ask,
    Blend,
    Event,
    GramSettings,
    ItemGram,
    ItemTexts,
    Profile,
    Recommender,
)

__all__ = ["ARMS", "Arm", "Ranks", "erasure", "live_ranks", "neighbours"]

_NEIGHBOURS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One choice of the constants; `frozen` is fitted once, before the first scored event."""

    gram: GramSettings
    blend: Blend
    nearness: float = 1.0
    frozen: bool = False


_PLAIN = Blend(recency=1.0, sequel=0.0, text=0.0)
ARMS: Mapping[str, Arm] = {
    "EASE frozen": Arm(gram=GramSettings(ridge=200.0, text=0.0), blend=_PLAIN, frozen=True),
    "EASE live": Arm(gram=GramSettings(ridge=200.0, text=0.0), blend=_PLAIN),
    "Perennial": Arm(gram=GramSettings(), blend=Blend(), nearness=ItemGram().nearness),
}


@dataclass(slots=True)
class Ranks:
    """The rank of each scored event's item by arm, and what else was seen on the way."""

    users: list[str] = field(default_factory=list)
    cold: list[bool] = field(default_factory=list)
    ranks: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    lists: list[tuple[str, ...]] = field(default_factory=list)
    click_s: list[float] = field(default_factory=list)
    click_changed: list[bool] = field(default_factory=list)
    fit_s: list[float] = field(default_factory=list)


def live_ranks(ratings: Ratings, stream: Stream, arms: Mapping[str, Arm], *, refit: int, seed: int) -> Ranks:
    """Every arm on one order of the stream, an event scored before anything learns it.

    The structure of a live arm is fitted again before each `refit` events; profiles know every event at once.
    """
    texts, place = ItemTexts.of(ratings.items), {item.name: number for number, item in enumerate(ratings.items)}
    rng, due, cold, found = np.random.default_rng(seed), set(scored_places(stream)), stream.cold(), Ranks()
    grams = {nearness: ItemGram(nearness=nearness) for nearness in {arm.nearness for arm in arms.values()}}
    before = stream.events[: stream.begin]
    for gram in grams.values():
        gram.add(before)
    profiles: dict[str, Profile] = {}
    likes = np.zeros(len(place))  # how many liked each item of the catalogue so far
    for event in before:
        _happened(event, profiles)
        likes[place[event.item]] += 1
    fitted: dict[str, Recommender] = {}
    for block in stream.blocks(refit):
        for name, arm in arms.items():
            if name not in fitted or not arm.frozen:
                began = time.perf_counter()
                structure = grams[arm.nearness].solve(replace(arm.gram, texts=texts))
                gram = grams[arm.nearness]
                fitted[name] = Recommender(structure, ratings.items, texts=texts, follows=gram, blend=arm.blend)
                found.fit_s.append(time.perf_counter() - began)
        near = neighbours(grams[1.0], ratings) if 1.0 in grams else None
        for number in block:
            event = stream.events[number]
            if number in due:
                profile, target = profiles[event.user], place[event.item]
                seen = [place[name] for name in profile.hidden]
                found.users.append(event.user)
                found.cold.append(event.item in cold)
                for name, model in fitted.items():
                    found.ranks[name].append(rank_of(model.scores(profile), target, seen, rng))
                found.ranks["popularity"].append(rank_of(likes, target, seen, rng))
                if near is not None:
                    found.ranks["item-kNN"].append(rank_of(near[seen].sum(axis=0), target, seen, rng))
                if "Perennial" in fitted and len(found.users) % 5 == 0:
                    _clicked(fitted["Perennial"], profile, event, found)
            _happened(event, profiles)
            likes[place[event.item]] += 1
            for gram in grams.values():
                gram.add([event])
    return found


def neighbours(gram: ItemGram, ratings: Ratings) -> NDArray[np.float32]:
    """Cosines of items by who liked them, the 50 nearest of each (items, items): item-kNN."""
    pairs = gram.pairs([item.name for item in ratings.items]).astype(np.float32)
    own = np.sqrt(np.maximum(np.diag(pairs), np.float32(1e-12)))
    cosine = pairs / own[:, None] / own[None, :]
    np.fill_diagonal(cosine, 0.0)
    nearest = min(_NEIGHBOURS, len(cosine))
    limit = np.partition(cosine, -nearest, axis=0)[-nearest]
    return np.where(cosine >= limit, cosine, np.float32(0.0))


def erasure(ratings: Ratings, arm: Arm) -> dict[str, Any]:
    """The heaviest user erased, beside a gram that never saw them: the largest difference in sums and weights."""
    events, texts = Stream.of(ratings, 0, (0.6, 1.0)).events, ItemTexts.of(ratings.items)
    user, count = Counter(event.user for event in events).most_common(1)[0]
    erased, never = ItemGram(nearness=arm.nearness), ItemGram(nearness=arm.nearness)
    erased.add(events)
    began = time.perf_counter()
    erased.erase(user)
    took = time.perf_counter() - began
    never.add(event for event in events if event.user != user)
    names = [item.name for item in ratings.items]
    weights = [gram.solve(replace(arm.gram, texts=texts)).weights for gram in (erased, never)]
    return {
        "user_events": count,
        "sums_difference": float(np.abs(erased.pairs(names) - never.pairs(names)).max()),
        "weights_difference": float(np.abs(weights[0] - weights[1]).max()),
        "erase_s": took,
    }


def _happened(event: Event, profiles: dict[str, Profile]) -> None:
    known = profiles.get(event.user, Profile(user=event.user))
    profiles[event.user] = Profile(user=event.user, events=(*known.events, event))


def _clicked(model: Recommender, profile: Profile, event: Event, found: Ranks) -> None:
    """A list as a user gets it, and the next one after a click: how long it takes, and whether it differs."""
    first = model.rank(Ask(at=event.at), profile).items
    began = time.perf_counter()
    second = model.rank(Ask(at=event.at), profile.after(event)).items
    found.click_s.append(time.perf_counter() - began)
    found.click_changed.append([item for item in first if item != event.item][:9] != list(second[:9]))
    found.lists.append(first)
