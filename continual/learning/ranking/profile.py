"""What is remembered of one user: the state that the next answer is made from, without any training."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking.events import Event
from perennial.continual.learning.ranking.item_texts import ItemTexts, words_of
from perennial.continual.learning.ranking.rules import ItemRule

__all__ = ["Profile", "profile_words"]

_LONGEST_SHOWN = 10  # words


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A user's events, oldest first, what they never want to see, and words that they want more or less of.

    >>> from datetime import UTC, datetime
    >>> tea = Event(user="u7", item="tea", at=datetime(2026, 1, 1, tzinfo=UTC))
    >>> Profile(user="u7").after(tea).block("cup").hidden == {"tea", "cup"}
    True
    """

    user: str
    events: tuple[Event, ...] = ()
    blocked: frozenset[str] = frozenset()
    wanted: Mapping[str, float] = field(default_factory=dict)  # word -> above 0 more of it, below 0 less
    withdrawn: frozenset[str] = frozenset()  # items that nobody is shown now; no part of what is known of the user
    rules: tuple[ItemRule, ...] = ()  # of the shop, for everybody

    @property
    def liked(self) -> tuple[Event, ...]:
        """The events that say something good of their item, oldest first."""
        return tuple(event for event in self.events if event.liked > 0)

    @property
    def hidden(self) -> frozenset[str]:
        """Items that are not shown (again): those seen, those blocked, and those that nobody is shown."""
        return self.blocked | self.withdrawn | {event.item for event in self.events}

    def after(self, event: Event) -> "Profile":
        """The profile once the event has happened; an older event of the same item gives way.

        Raises:
            DataError: it is of another user.
        """
        if event.user != self.user:
            raise DataError(f"an event of user {event.user!r} came to the profile of {self.user!r}; ask for theirs")
        others = [one for one in self.events if one.item != event.item]
        known = [one for one in self.events if one.item == event.item and one.at > event.at]
        events = sorted([*others, *(known or [event])], key=lambda one: (one.at, one.item))
        return replace(self, events=tuple(events))

    def block(self, item: str) -> "Profile":
        """The profile with an item that is never shown."""
        return replace(self, blocked=self.blocked | {item})

    def want(self, text: str, weight: float) -> "Profile":
        """The profile with the words of a text wanted more (above 0) or less (below 0); 0 forgets them."""
        kept = {word: old for word, old in self.wanted.items() if word not in words_of(text)}
        return replace(self, wanted=kept | (dict.fromkeys(words_of(text), weight) if weight else {}))

    def document(self) -> dict[str, Any]:
        """All of it in values that survive JSON: what an export of a user's data holds."""
        return {
            "user": self.user,
            "events": [{"item": one.item, "at": one.at.isoformat(), "liked": one.liked} for one in self.events],
            "blocked": sorted(self.blocked),
            "wanted": dict(sorted(self.wanted.items())),
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Profile":
        """The profile that `document` holds.

        Raises:
            DataError: it is not one.
        """
        try:
            user = document["user"]
            return cls(
                user=user,
                events=tuple(
                    Event(user=user, item=one["item"], at=datetime.fromisoformat(one["at"]), liked=one["liked"])
                    for one in document["events"]
                ),
                blocked=frozenset(document["blocked"]),
                wanted={word: float(weight) for word, weight in document["wanted"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"a profile cannot be read ({error!r}); give what an export wrote") from error


def profile_words(profile: Profile, texts: ItemTexts, *, most: int = _LONGEST_SHOWN) -> dict[str, float]:
    """What a user likes in words: those of the items that they liked and those that they asked for, heaviest first."""
    place = {name: number for number, name in enumerate(texts.names)}
    found = dict(profile.wanted)
    liked = [(place[event.item], event.liked) for event in profile.liked if event.item in place]
    if liked:
        places, weights = zip(*liked, strict=True)
        total = np.asarray(texts.rows[list(places)].T @ np.array(weights)) / len(liked)
        for column in np.argsort(-total)[:most]:
            word = texts.vocabulary[column]
            if total[column] > 0:
                found[word] = found.get(word, 0.0) + float(total[column])
    ordered = sorted(found.items(), key=lambda pair: (-abs(pair[1]), pair[0]))
    return dict(ordered[:most])
