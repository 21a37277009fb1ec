"""A version beside its engine: what a list is asked for goes in, lists come out. No torch, no onnx: stubs run it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perennial.continual.learning.ranking import (
    Blend,
    Bounds,
    Event,
    Exploration,
    Item,
    ItemRule,
    ItemTexts,
    Placed,
    RuleText,
)
from perennial.continual.learning.ranking.item_texts import words_of
from perennial.continual.learning.ranking.recommender import FAINT_POPULARITY, recent
from perennial.continual.learning.ranking.slots import fill, most_liked
from perennial.continual.learning.ranking.trained import ITEMS_FILE, read_blend, read_items
from perennial.exporters.batches import joined
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.ranking.asked import Asked
from perennial.exporters.ranking.signature import (
    BOOSTED,
    BOOSTS,
    HIDDEN,
    LIKED,
    POPULAR,
    RANKED,
    UNKNOWN,
    UNKNOWN_VALUES,
    VALUES,
    WEIGHTS,
)
from perennial.exporters.ranking.ties import ItemTies

__all__ = ["Catalogue", "item_inputs"]

_NO_TEXTS = ItemTexts(names=(), vocabulary=(), rows=sparse.csr_matrix((0, 0), dtype=np.float32))


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The items, what ties them, and how both become scores and lists."""

    items: tuple[Item, ...]
    ties: ItemTies  # the strongest ones suffice
    blend: Blend
    bounds: Bounds
    exploration: Exploration

    @classmethod
    def read(cls, bundle: Path) -> "Catalogue":
        """Those of a bundle.

        Raises:
            DataError: a file is missing or damaged.
        """
        blend, bounds, exploration = read_blend(bundle)
        return cls(
            items=read_items(bundle / ITEMS_FILE),
            ties=ItemTies.read(bundle),
            blend=blend,
            bounds=bounds,
            exploration=exploration,
        )

    @cached_property
    def place(self) -> Mapping[str, int]:
        """Where each item stands."""
        return {item.name: number for number, item in enumerate(self.items)}

    @cached_property
    def texts(self) -> ItemTexts:
        """The items' texts."""
        return ItemTexts.of(self.items)

    def encode(self, asked: Sequence[Asked]) -> Inputs:
        """The engine's inputs, one row each."""
        return joined([self._row(one) for one in asked])

    def lists(self, asked: Sequence[Asked], outputs: Outputs) -> list[tuple[Placed, ...]]:
        """The lists that an engine's outputs give: within the bounds, with places lent to unknown items, with reasons.

        They are those of `Recommender.rank`, as far as the ties hold what the structure says.
        """
        columns = (outputs[name] for name in (RANKED, VALUES, UNKNOWN, UNKNOWN_VALUES))
        return [self._list(one, *row) for one, *row in zip(asked, *columns, strict=True)]

    def _row(self, asked: Asked) -> Inputs:
        liked = self._liked(asked)
        rows = {self.place[event.item]: weight for event, weight in recent(liked, self.blend.recency)}
        if self.ties.has_sequels:
            after = recent(liked, self.blend.sequel_recency)
            rows |= {len(self.items) + self.place[event.item]: weight for event, weight in after}
        popular = self.blend.popular or (0.0 if liked else FAINT_POPULARITY)
        return item_inputs(rows, np.flatnonzero(self._hidden(asked)), self._boosts(asked), popular=popular)

    def _liked(self, asked: Asked) -> list[Event]:
        return [event for event in asked.known.liked if event.item in self.place]

    def _hidden(self, asked: Asked) -> NDArray[np.bool_]:
        """Which items this list may not hold (items,)."""
        hidden = np.zeros(len(self.items), dtype=bool)
        if asked.candidates is not None:
            hidden[:] = True
            hidden[self._places(asked.candidates)] = False
        hidden[self._places((*asked.known.hidden, *asked.withheld))] = True
        for rule in asked.known.rules:
            if rule.concerns(asked.segment):
                hidden |= self._left_out_by(rule)
        if asked.language:
            hidden |= self._foreign_to.get(asked.language, self._foreign_to[""])
        if asked.at is not None and self._times is not None:
            begins, ends = self._times
            hidden |= (begins > asked.at.timestamp()) | (ends <= asked.at.timestamp())
        return hidden

    def _left_out_by(self, rule: ItemRule) -> NDArray[np.bool_]:
        """Which items a rule is about (items,)."""
        if rule.words not in self._found:
            self._found[rule.words] = np.array([rule.leaves_out(text) for text in self._read], dtype=bool)
        return self._found[rule.words]

    @cached_property
    def _read(self) -> tuple[RuleText, ...]:
        """The texts as rules read them; nobody needs them where there are no rules."""
        return tuple(RuleText(item.text) for item in self.items)

    @cached_property
    def _found(self) -> dict[tuple[str, ...], NDArray[np.bool_]]:
        """What `_left_out_by` has found so far: rules are few, and stand for long."""
        return {}

    def _places(self, names: Collection[str]) -> list[int]:
        return [self.place[name] for name in names if name in self.place]

    @cached_property
    def _foreign_to(self) -> Mapping[str, NDArray[np.bool_]]:
        """Which items are of another language, by language; by none, for a language that no item has (items,)."""
        languages = np.array([item.language for item in self.items], dtype=object)
        known = {"", *languages.tolist()}
        return {language: (languages != "") & (languages != language) for language in known}

    @cached_property
    def _times(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """From when and until when each item is offered, in seconds; None where all always are."""
        if all(item.offered_from is None and item.offered_until is None for item in self.items):
            return None
        begins = [-np.inf if item.offered_from is None else item.offered_from.timestamp() for item in self.items]
        ends = [np.inf if item.offered_until is None else item.offered_until.timestamp() for item in self.items]
        return np.array(begins), np.array(ends)

    def _boosts(self, asked: Asked) -> dict[int, float]:
        """What words add to the items that have them."""
        wanted = dict(asked.known.wanted) | dict.fromkeys(words_of(asked.context), 1.0)
        if not wanted or not self.blend.words:
            return {}
        added = np.float32(self.blend.words) * self.texts.about(wanted)
        places = np.flatnonzero(added)
        return dict(zip(places.tolist(), added[places].tolist(), strict=True))

    def _list(self, asked: Asked, *row: NDArray[Any]) -> tuple[Placed, ...]:
        best, scores, strangers, their_scores = row
        score_of = dict(zip(best.tolist(), scores.tolist(), strict=True))
        if self.exploration.share and asked.lottery is not None:
            score_of |= dict(zip(strangers.tolist(), their_scores.tolist(), strict=True))
        places = np.array(sorted(place for place in score_of if place >= 0), dtype=np.int64)
        values = np.array([score_of[place] for place in places.tolist()], dtype=np.float32)
        slots = fill(
            values,
            np.ones(len(places), dtype=bool),
            self.ties.known[places],
            self._most_liked[places],
            self.texts.part(places.tolist()) if self.bounds.most_alike is not None else _NO_TEXTS,
            count=asked.count,
            bounds=self.bounds,
            exploration=self.exploration,
            rng=None if asked.lottery is None else np.random.default_rng(asked.lottery),
        )
        shown = [int(places[slot.place]) for slot in slots]
        reasons = self._reasons(asked, shown)
        return tuple(
            Placed(
                item=self.items[place].name,
                score=score_of[place],
                reason="new here" if slot.explored else reason,
                propensity=slot.propensity,
                explored=slot.explored,
            )
            for slot, place, reason in zip(slots, shown, reasons, strict=True)
        )

    @cached_property
    def _most_liked(self) -> NDArray[np.bool_]:
        return most_liked(self.ties.known)

    def _reasons(self, asked: Asked, shown: Sequence[int]) -> list[str]:
        """Why each item is there: the liking that moved it most, else a word that was asked for, else the rest."""
        liked = self._liked(asked)
        moved = self._moved(recent(liked, self.blend.recency), shown)
        words = (*words_of(asked.context), *asked.known.wanted)
        rest = "popular"
        if liked and (self.ties.has_sequels or self.blend.text):
            rest = "often after what you liked" if self.ties.has_sequels else "like what you liked"
        return [self._reason(place, moved, words, rest) for place in shown]

    def _reason(self, place: int, moved: Mapping[int, str], words: Sequence[str], rest: str) -> str:
        if place in moved:
            return f"because of {moved[place]}"
        own = set(words_of(self.items[place].text)) if words else set()
        return next((f"about {word}" for word in words if word in own), rest)

    def _moved(self, liked: Sequence[tuple[Event, float]], shown: Sequence[int]) -> dict[int, str]:
        """The liked item that adds most to each shown one, where one adds anything."""
        if not liked or not shown:
            return {}
        rows = [self.place[event.item] for event, _ in liked]
        weights = np.array([weight for _, weight in liked], dtype=np.float32)
        table = self.ties.neighbours
        among = np.zeros(len(self.items), dtype=bool)
        among[shown] = True
        places = table.places[rows]
        whose, which = np.nonzero(among[places])
        added = table.values[rows][whose, which] * weights[whose]
        found: dict[int, str] = {}
        for number in np.argsort(-added, kind="stable").tolist():
            if added[number] > 0:
                found.setdefault(int(places[whose[number], which[number]]), liked[whose[number]][0].item)
        return found


def item_inputs(
    liked: Mapping[int, float], hidden: NDArray[np.int64], boosts: Mapping[int, float], *, popular: float = 0.0
) -> Inputs:
    """The inputs of one row.

    Args:
        liked: rows of the ties, each with its weight.
        hidden: items that are not shown, counted from 0.
        boosts: what is added to items, counted from 0.
        popular: what the most liked item's popularity adds.

    >>> item_inputs({}, np.array([2]), {})["hidden"].tolist()
    [[3]]
    """
    return {
        LIKED: np.array([list(liked) or [0]], dtype=np.int64),
        WEIGHTS: np.array([list(liked.values()) or [0.0]], dtype=np.float32),
        HIDDEN: hidden.astype(np.int64)[None, :] + 1 if len(hidden) else np.zeros((1, 1), np.int64),
        BOOSTED: np.array([list(boosts) or [-1]], dtype=np.int64) + 1,
        BOOSTS: np.array([list(boosts.values()) or [0.0]], dtype=np.float32),
        POPULAR: np.array([[popular]], dtype=np.float32),
    }
