"""From a user's state to a list: scores, places, reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.ranking.events import Event, Item
from perennial.continual.learning.ranking.gram import Structure
from perennial.continual.learning.ranking.item_texts import ItemTexts, words_of
from perennial.continual.learning.ranking.profile import Profile
from perennial.continual.learning.ranking.slots import Bounds, Exploration, Slot, fill, most_liked

__all__ = ["FAINT_POPULARITY", "Ask", "Blend", "Following", "Placed", "Ranked", "Recommender", "recent"]

FAINT_POPULARITY = 1e-3  # what popularity weighs for those of whom nothing is known, where it weighs nothing else

_FORGOTTEN = 1e-3  # of the last event's weight: what is below adds nothing that could be seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """What a score is made of; chosen on earlier time.

    >>> Blend().recency
    0.95
    """

    recency: float = 0.95  # each liked item weighs so much less than the one after it
    sequel: float = 0.6  # what others liked after it, beside the structure; new events count at once
    sequel_recency: float = 0.8  # each liked item leads to so much less than the one after it
    text: float = 0.05  # likeness to the texts of what was liked, beside what the structure holds of it
    popular: float = 0.0  # how many liked it
    words: float = 1.0  # words that the user asked for, and those of the context

    def __post_init__(self) -> None:
        recencies = (self.recency, self.sequel_recency)
        if not all(0.0 < one <= 1.0 for one in recencies) or min(self.sequel, self.text, self.popular, self.words) < 0:
            raise ConfigurationError(f"{self}: recencies must lie above 0 and up to 1, the others be 0 or more")


class Following(Protocol):
    """What follows what, as it is known now; `ItemGram` is one."""

    @property
    def places(self) -> Mapping[str, int]:
        """Where each item stands in `following`; new ones come behind, and nothing moves."""
        ...

    def following(self, liked: Mapping[str, float]) -> NDArray[np.float64]:
        """How much each item follows those liked, by weight (places,)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What one list is asked for; `candidates` leaves it only some items, `withheld` is what a business rule takes out.

    >>> Ask(count=3).candidates is None
    True
    """

    count: int = 10
    at: datetime | None = None  # items are offered by their times; None offers all
    candidates: frozenset[str] | None = None
    withheld: frozenset[str] = frozenset()
    language: str = ""  # only items of this language, or of none
    context: str = ""  # in words

    def __post_init__(self) -> None:
        if self.count < 1:
            raise DataError(f"a list of {self.count} items is asked for; ask for 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One item of a list: why it is there, and how likely it was to get this place."""

    item: str
    score: float
    reason: str
    propensity: float
    explored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A list for one user, best first."""

    user: str
    places: tuple[Placed, ...]

    @property
    def items(self) -> tuple[str, ...]:
        """The items in order: what `Ranking.score` scores."""
        return tuple(placed.item for placed in self.places)


def recent(liked: Sequence[Event], recency: float) -> list[tuple[Event, float]]:
    """Events, oldest first, with what each weighs: the last one most. Those that weigh next to nothing are left out.

    >>> recent([], 0.9)
    []
    """
    steps = range(len(liked) - 1, -1, -1)
    weighed = [(event, event.liked * recency**step) for event, step in zip(liked, steps, strict=True)]
    return [(event, weight) for event, weight in weighed if weight > _FORGOTTEN]


class Recommender:
    """A structure and a catalogue. It keeps no user: whoever clicked a second ago is answered by it.

    >>> texts = [Item(name="tea", text="green tea"), Item(name="mug", text="a mug for tea")]
    >>> structure = Structure(names=("mug", "tea"), support=np.ones(2), weights=np.array([[0, 0], [1, 0]], np.float32))
    >>> from perennial.continual.learning.ranking.events import Event
    >>> from datetime import UTC, datetime
    >>> state = Profile(user="u").after(Event(user="u", item="tea", at=datetime(2026, 1, 1, tzinfo=UTC)))
    >>> Recommender(structure, texts).rank(Ask(), state).places[0].reason
    'because of tea'
    """

    def __init__(
        self,
        structure: Structure,
        items: Sequence[Item],
        *,
        texts: ItemTexts | None = None,
        follows: Following | None = None,
        blend: Blend | None = None,
        bounds: Bounds | None = None,
        exploration: Exploration | None = None,
    ) -> None:
        self.items = tuple(items)
        self.structure = structure
        self.texts = texts or ItemTexts.of(items)
        self.blend = blend or Blend()
        self.bounds = bounds or Bounds()
        self.exploration = exploration or Exploration()
        self._place = {item.name: number for number, item in enumerate(self.items)}
        if missing := [name for name in structure.names if name not in self._place]:
            raise DataError(f"the catalogue lacks {len(missing)} items of the structure, e.g. {missing[0]!r}; give all")
        self._row = {name: number for number, name in enumerate(structure.names)}
        self._columns = np.array([self._place[name] for name in structure.names], dtype=np.int64)
        self._follows = follows
        self._following_columns: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._known = np.zeros(len(self.items))
        self._known[self._columns] = structure.support
        most = float(self._known.max(initial=0.0))
        self._popular = (self._known / most if most else self._known).astype(np.float32)
        self._most_liked = most_liked(self._known)

    def scores(self, profile: Profile, context: str = "") -> NDArray[np.float32]:
        """A score for every item of the catalogue (items,), whether or not it may be shown."""
        found = np.zeros(len(self.items), dtype=np.float32)
        liked = self._liked(profile)
        rows, weights = self._lit(liked)
        if rows:
            found[self._columns] += weights @ self.structure.weights[rows]
        if self.blend.sequel and self._follows is not None:
            found += np.float32(self.blend.sequel) * self._sequels(liked)
        if self.blend.text and liked:
            found += np.float32(self.blend.text) * self._near(liked)
        wanted = dict(profile.wanted) | dict.fromkeys(words_of(context), 1.0)
        if wanted:
            found += np.float32(self.blend.words) * self.texts.about(wanted)
        if self.blend.popular or not liked:
            found += np.float32(self.blend.popular or FAINT_POPULARITY) * self._popular
        return found

    @property
    def popular(self) -> NDArray[np.float32]:
        """How many liked each item (items,), as a share of the most liked one's."""
        return self._popular

    @property
    def known(self) -> NDArray[np.float64]:
        """How many users liked each item, weighted (items,)."""
        return self._known

    @property
    def has_sequels(self) -> bool:
        """Whether what followed what counts in its scores."""
        return self._follows is not None and self.blend.sequel > 0

    @property
    def structured(self) -> list[int]:
        """Where the items stand that the structure has; of others their texts alone tell."""
        return sorted(self._columns.tolist())

    @property
    def leading(self) -> list[int]:
        """Where the items stand that something may have followed."""
        known = () if self._follows is None else self._follows.places
        return sorted(self._place[name] for name in known if name in self._place)

    def sequels(self, places: Sequence[int]) -> NDArray[np.float32]:
        """What liking each of these items adds to the score of what others liked after it (places, items)."""
        found = np.zeros((len(places), len(self.items)), dtype=np.float32)
        if self._follows is None or not self.blend.sequel:
            return found
        columns = self._columns_of(self._follows)
        for number, place in enumerate(places):
            follows = self._follows.following({self.items[place].name: 1.0})
            found[number, columns[columns >= 0]] = self.blend.sequel * follows[columns >= 0]
        return found

    def ties(self, places: Sequence[int]) -> NDArray[np.float32]:
        """What liking each of these items adds to the score of every item (places, items)."""
        found = np.zeros((len(places), len(self.items)), dtype=np.float32)
        if self.blend.text:
            found += np.float32(self.blend.text) * self.texts.similarity(places)
        for number, place in enumerate(places):
            row = self._row.get(self.items[place].name)
            if row is not None:
                found[number, self._columns] += self.structure.weights[row]
        return found

    def rank(self, ask: Ask, profile: Profile, rng: np.random.Generator | None = None) -> Ranked:
        """The list that a user gets; without `rng` nothing is explored and the same question has the same answer."""
        scores = self.scores(profile, ask.context)
        slots = fill(
            scores,
            self._allowed(ask, profile),
            self._known,
            self._most_liked,
            self.texts,
            count=ask.count,
            bounds=self.bounds,
            exploration=self.exploration,
            rng=rng,
        )
        places = tuple(
            Placed(
                item=self.items[slot.place].name,
                score=float(scores[slot.place]),
                reason=self._reason(slot, profile, ask.context),
                propensity=slot.propensity,
                explored=slot.explored,
            )
            for slot in slots
        )
        return Ranked(user=profile.user, places=places)

    def _liked(self, profile: Profile) -> list[Event]:
        """What was liked of the catalogue, oldest first."""
        return [event for event in profile.liked if event.item in self._place]

    def _lit(self, liked: Sequence[Event]) -> tuple[list[int], NDArray[np.float32]]:
        """The rows of the structure that likings light up, and how much; the last one most."""
        kept = [(event, weight) for event, weight in recent(liked, self.blend.recency) if event.item in self._row]
        return [self._row[event.item] for event, _ in kept], np.array([weight for _, weight in kept], np.float32)

    def _sequels(self, liked: Sequence[Event]) -> NDArray[np.float32]:
        """How much each item of the catalogue follows what was liked."""
        found = np.zeros(len(self.items), dtype=np.float32)
        liked_weights = {event.item: weight for event, weight in recent(liked, self.blend.sequel_recency)}
        if liked_weights and self._follows is not None:
            follows = self._follows.following(liked_weights)
            columns = self._columns_of(self._follows)
            found[columns[columns >= 0]] = follows[columns >= 0]
        return found

    def _columns_of(self, follows: Following) -> NDArray[np.int64]:
        """Where in the catalogue each item of `follows` stands, -1 where it does not; new ones come behind."""
        known = len(self._following_columns)
        if len(follows.places) > known:
            new = [self._place.get(name, -1) for name in islice(follows.places, known, None)]
            self._following_columns = np.append(self._following_columns, np.array(new, dtype=np.int64))
        return self._following_columns

    def _near(self, liked: Sequence[Event]) -> NDArray[np.float32]:
        """How near every item's text is to those that were liked."""
        kept = recent(liked, self.blend.recency)
        weights = np.array([weight for _, weight in kept], np.float32)
        return self.texts.near([self._place[event.item] for event, _ in kept], weights)

    def _allowed(self, ask: Ask, profile: Profile) -> NDArray[np.bool_]:
        allowed = np.ones(len(self.items), dtype=bool)
        for number, item in enumerate(self.items):
            if not item.offered(ask.at) or (ask.language and item.language not in ("", ask.language)):
                allowed[number] = False
        if ask.candidates is not None:
            among = np.zeros(len(self.items), dtype=bool)
            among[[self._place[name] for name in ask.candidates if name in self._place]] = True
            allowed &= among
        allowed[[self._place[name] for name in profile.hidden | ask.withheld if name in self._place]] = False
        return allowed

    def _reason(self, slot: Slot, profile: Profile, context: str) -> str:
        """Why an item has its place, in words."""
        if slot.explored:
            return "new here"
        name = self.items[slot.place].name
        rows, weights = self._lit(self._liked(profile))
        if rows and name in self._row:
            parts = weights * self.structure.weights[rows, self._row[name]]
            if parts.max() > 0:
                return f"because of {self.structure.names[rows[int(parts.argmax())]]}"
        own = set(words_of(self.items[slot.place].text))
        shared = [word for word in (*words_of(context), *profile.wanted) if word in own]
        if shared:
            return f"about {shared[0]}"
        if profile.liked and (self.has_sequels or self.blend.text):
            return "often after what you liked" if self.has_sequels else "like what you liked"
        return "popular"
