"""Off-policy estimates from the propensities that the product logs, beside what really would have been earned."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.ranking_arms import ARMS, Arm
from benchmarks.ranking_stream import Ratings, Stream, scored_places
from perennial.continual.learning.ranking import (
    Ask,
    Event,
    Exploration,
    ItemGram,
    ItemTexts,
    Profile,
    Recommender,
)
from perennial.continual.off_policy import Logged, estimate

__all__ = ["off_policy"]

_AMONG = 20  # the logging way explores among so many
_SOON = 20  # a choice earns 1 when it is among the user's next so many likings
_WINDOW = (0.6, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """One logged choice, and what the live model would have chosen; places are those of the logging model's list."""

    reward: float
    propensity: float
    place: int
    live_place: int
    live_reward: float


def off_policy(ratings: Ratings, arm: Arm, refit: int, *, seed: int = 0) -> dict[str, Any]:
    """A frozen model logs single choices, half of them explored; the live one is judged by that log alone.

    The live model chooses among the twenty best of the frozen one, so that the log could have held its every choice.
    """
    stream, texts = Stream.of(ratings, seed, _WINDOW), ItemTexts.of(ratings.items)
    rng, due = np.random.default_rng(seed), set(scored_places(stream))
    old, before = ARMS["EASE frozen"], stream.events[: stream.begin]
    frozen_gram, live_gram = ItemGram(nearness=old.nearness), ItemGram(nearness=arm.nearness)
    frozen_gram.add(before)
    live_gram.add(before)
    logging = Recommender(
        frozen_gram.solve(replace(old.gram, texts=texts)),
        ratings.items,
        texts=texts,
        blend=old.blend,
        exploration=Exploration(share=0.5, most=1, among=_AMONG, known_from=float("inf")),
    )
    whole: dict[str, list[Event]] = {}
    for event in stream.events:
        whole.setdefault(event.user, []).append(event)
    done: dict[str, int] = {}
    for event in before:
        done[event.user] = done.get(event.user, 0) + 1
    choices = []
    for block in stream.blocks(refit):
        structure = live_gram.solve(replace(arm.gram, texts=texts))
        live = Recommender(structure, ratings.items, texts=texts, follows=live_gram, blend=arm.blend)
        for number in block:
            user = stream.events[number].user
            past = done.get(user, 0)
            if number in due:
                soon = {event.item for event in whole[user][past : past + _SOON]}
                state = Profile(user=user, events=tuple(whole[user][:past]))
                choices.append(_choice(logging, live, state, soon, rng))
            done[user] = past + 1
            live_gram.add([stream.events[number]])
    return _judged(choices, rng)


def _choice(
    logging: Recommender, live: Recommender, state: Profile, soon: set[str], rng: np.random.Generator
) -> _Choice:
    best = logging.rank(Ask(count=_AMONG), state).items
    logged = logging.rank(Ask(count=1), state, rng).places[0]
    wanted = live.rank(Ask(count=1, candidates=frozenset(best)), state).items[0]
    return _Choice(
        reward=float(logged.item in soon),
        propensity=logged.propensity,
        place=best.index(logged.item),
        live_place=best.index(wanted),
        live_reward=float(wanted in soon),
    )


def _judged(choices: Sequence[_Choice], rng: np.random.Generator) -> dict[str, Any]:
    """The estimates for the live model, the truth, and what the logging one earned.

    The doubly robust one expects of a choice what the other half of the log earned at its place.
    """
    places = np.array([choice.place for choice in choices])
    live_places = np.array([choice.live_place for choice in choices])
    reward = np.array([choice.reward for choice in choices])
    half = np.arange(len(choices)) % 2
    predicted, expected = np.zeros(len(choices)), np.zeros(len(choices))
    for own in (0, 1):
        others = half != own
        shown = np.bincount(places[others], minlength=_AMONG) + 1.0
        earned = (np.bincount(places[others], reward[others], minlength=_AMONG) + reward.mean()) / shown
        predicted[half == own] = earned[places[half == own]]
        expected[half == own] = earned[live_places[half == own]]
    found = estimate(
        Logged(
            reward=reward,
            propensity=np.array([choice.propensity for choice in choices]),
            chance=(places == live_places).astype(np.float64),
            predicted=predicted,
            expected=expected,
        ),
        rng,
    )
    truth = float(np.mean([choice.live_reward for choice in choices]))
    return {"truth": truth, "logging_earned": reward.mean(), "rows": len(choices), **asdict(found)}
