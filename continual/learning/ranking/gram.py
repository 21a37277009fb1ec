"""Which items the same users liked, as sums that can be added, taken back and merged without a trace."""

import hashlib
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.ranking.events import Event
from perennial.continual.learning.ranking.item_texts import ItemTexts
from perennial.continual.learning.ranking.pair_sums import UNIT, PairSums, Whole
from perennial.continual.learning.sums import KnownRows, NamedSums, SumsFile

__all__ = ["GramSettings", "ItemGram", "Structure", "histories", "user_key"]

_FAR = 60  # likings after one that it may still lead to
_REACH = 1_000  # likings before one that it pairs with: whoever clicks on everything costs no memory without end
_BACKWARDS = 0.5  # what an item says of those before it, beside those after it
_SHY = 20.0  # users that an item needs before few followers count as many
_FORMAT = "perennial-item-gram-1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GramSettings:
    """How the sums become a model; the numbers were chosen on earlier time.

    >>> GramSettings().ridge
    200.0
    """

    texts: ItemTexts | None = None  # of the catalogue; without them the items are those that somebody liked
    ridge: float = 200.0  # what a pair needs more than chance before it counts
    text: float = 20.0  # what full likeness of two texts weighs, in common users
    most_items: int = 5000  # in the structure: its cost is their number cubed

    def __post_init__(self) -> None:
        if self.ridge <= 0 or self.text < 0 or self.most_items < 1:
            seen = f"ridge {self.ridge}, text {self.text}, most_items {self.most_items}"
            raise ConfigurationError(f"{seen}: ridge must be above 0, text 0 or more, most_items 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What each liked item says of each other one: `weights[i, j]` is what liking i adds to the score of j."""

    names: tuple[str, ...]
    support: NDArray[np.float64]  # (n,) users who liked it, weighted
    weights: NDArray[np.float32]  # (n, n), zero on the diagonal


class ItemGram:
    """The histories of users, and the sums over them: for each pair of items, how often one user liked both.

    A row of these sums is a user: `add` and `remove` count users whose history changed.

    Two items that were liked one after the other count as a pair of weight `nearness`, with others between them of
    its powers; a liking pairs with the thousand before it at most. In the sums of what came soon after what, they count
    1, and the powers of `sequel`. Each pair counts in whole 65,536ths: adding, erasing and merging are exact, and the
    sums are those of the events that are in, whatever their order, batches or shards. An item counts once a user, at
    the latest time.

    Source: Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019 (the model of the sums).

    >>> from datetime import UTC, datetime
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> gram = ItemGram()
    >>> gram.add([Event(user="u", item=item, at=at) for item in ("tea", "cup")])
    1
    >>> gram.erase("u"), gram.items
    (1, ())
    """

    def __init__(self, *, nearness: float = 1.0, sequel: float = 0.8) -> None:
        for name, value in (("nearness", nearness), ("sequel", sequel)):
            if not 0.0 < value <= 1.0:
                raise ConfigurationError(f"{name} is {value}; it must lie above 0 and up to 1")
        self.nearness, self.sequel = nearness, sequel
        self._place: dict[str, int] = {}
        self._histories: dict[str, tuple[Event, ...]] = {}
        self._together = PairSums()  # the upper triangle by place
        self._after = PairSums()  # a row's item, then a column's
        self._own: list[int] = []  # units by place

    @property
    def users(self) -> tuple[str, ...]:
        """Those who have events here, sorted."""
        return tuple(sorted(self._histories))

    @property
    def rows(self) -> int:
        """Users who are in."""
        return len(self._histories)

    @property
    def known_keys(self) -> KeysView[int]:
        """The users who are in, each as a 64-bit hash."""
        return {user_key(user): user for user in self._histories}.keys()

    @property
    def named(self) -> NamedSums:
        """The sums of pairs in units of one, for items that somebody liked; dense: 8 bytes a pair."""
        items = self.items
        sums = NamedSums({"pairs": ("item", "item"), "sequels": ("item", "item")})
        sums.restore({"item": items}, {"pairs": self.pairs(items), "sequels": self.sequels(items)})
        return sums

    @property
    def items(self) -> tuple[str, ...]:
        """Items that somebody liked, sorted."""
        return tuple(name for name in sorted(self._place) if self._own[self._place[name]])

    @property
    def places(self) -> Mapping[str, int]:
        """Where each item stands in `following`; new ones come behind, and nothing moves."""
        return self._place

    def history(self, user: str) -> tuple[Event, ...]:
        """What a user did, oldest first; nothing of somebody unknown."""
        return self._histories.get(user, ())

    def add(self, events: Iterable[Event], /) -> int:
        """Learns events; one that is in, or older than what is known of its user and item, changes nothing."""
        changed = 0
        for user, new in _by_user(events):
            old = self._histories.get(user, ())
            latest = {event.item: event for event in old}
            for event in new:
                known = latest.get(event.item)
                if known is None or (event.at, event.liked) > (known.at, known.liked):
                    latest[event.item] = event
            changed += self._become(user, old, tuple(sorted(latest.values(), key=_moment)))
        return changed

    def remove(self, events: Iterable[Event], /) -> int:
        """Takes back what users did with items, at whatever time; what is not in is passed over."""
        changed = 0
        for user, taken in _by_user(events):
            old, out = self._histories.get(user, ()), {event.item for event in taken}
            changed += self._become(user, old, tuple(event for event in old if event.item not in out))
        return changed

    def erase(self, user: str) -> int:
        """Takes back all of a user: afterwards the sums are those of a gram that never saw them."""
        return self.remove(self.history(user))

    def merge(self, other: "ItemGram", /) -> None:
        """Adds all that `other` has learnt of other users.

        Raises:
            DataError: it weighs pairs otherwise, or a user is in both; nothing has changed.
        """
        mine, theirs = (self.nearness, self.sequel), (other.nearness, other.sequel)
        if mine != theirs:
            raise DataError(f"the sums are of different nearness and sequel: {mine} and {theirs}; make both alike")
        if shared := self._histories.keys() & other._histories.keys():
            raise DataError(f"the two share {len(shared)} rows, which are users; erase them from one first")
        there = np.array([self._placed(name) for name in other._place], dtype=np.int64)
        for place, units in zip(there, other._own, strict=True):
            self._own[place] += units
        together = other._together.settled(len(there)).tocoo()
        self._join(there[together.row], there[together.col], together.data)
        after = other._after.settled(len(there)).tocoo()
        self._after.add(there[after.row], there[after.col], after.data)
        self._histories.update(other._histories)

    def pairs(self, items: Sequence[str]) -> NDArray[np.float64]:
        """The weighted number of users who liked each pair (items, items); the diagonal has each item's own."""
        block = self._block(self._together, items)
        return block + block.T - np.diag(np.diag(block))

    def sequels(self, items: Sequence[str]) -> NDArray[np.float64]:
        """How many users liked the column's item soon after the row's, weighted; before it counts half."""
        return self._block(self._after, items)

    def following(self, liked: Mapping[str, float]) -> NDArray[np.float64]:
        """How much more than usual each item comes soon after those liked, by weight (places,); events count at once.

        Each sum is divided by the roots of both items' users, so that popular items neither speak nor come for all.
        """
        known = {self._place[name]: weight for name, weight in liked.items() if name in self._place}
        users = np.array(self._own, dtype=np.float64) / UNIT
        weights = [weight / np.sqrt(users[place] + 1.0) for place, weight in known.items()]
        found = self._after.weighted(list(known), weights, size=len(self._place))
        return np.asarray(found / np.sqrt(users + _SHY))

    def solve(self, settings: GramSettings, /) -> Structure:
        """The structure of the items that most users liked; room that is left goes to those nobody liked yet.

        Raises:
            DataError: there are no rows, or no item of the catalogue.
        """
        if not self._histories:
            raise DataError("the sums have no rows: no user has done anything; import events first")
        texts = settings.texts
        names = self.items if texts is None else texts.names
        users = self._together.settled(len(self._place)).diagonal() / UNIT
        support = {name: float(users[self._place[name]]) if name in self._place else 0.0 for name in names}
        chosen = sorted(sorted(support, key=lambda name: (-support[name], name))[: settings.most_items])
        if not chosen:
            raise DataError("there are no items to recommend; give a catalogue with at least one")
        gram = self.pairs(chosen).astype(np.float32)
        if texts is not None and settings.text:
            place = {name: number for number, name in enumerate(names)}
            gram += np.float32(settings.text) * texts.among([place[name] for name in chosen])
        gram[np.diag_indices_from(gram)] += np.float32(settings.ridge)
        own = np.array([support[name] for name in chosen])
        return Structure(names=tuple(chosen), support=own, weights=_regressed(gram))

    def save(self, path: Path, /) -> None:
        """Write one file that gives back exactly these sums, whole or not at all."""
        users = self.users
        items = sorted({event.item for history in self._histories.values() for event in history})
        place = {name: number for number, name in enumerate(items)}
        events = [(number, event) for number, user in enumerate(users) for event in self._histories[user]]
        SumsFile(
            format=_FORMAT,
            tensors={
                **KnownRows({user_key(user): user for user in users}).tensors(users),
                "event_user": np.array([number for number, _ in events], dtype=np.int64),
                "event_item": np.array([place[event.item] for _, event in events], dtype=np.int64),
                "event_at": np.array([_since_epoch(event.at) for _, event in events], dtype=np.int64),
                "event_liked": np.array([event.liked for _, event in events], dtype=np.float64),
            },
            about={"nearness": self.nearness, "sequel": self.sequel, "users": list(users), "items": items},
        ).write(path)

    @classmethod
    def load(cls, path: Path) -> "ItemGram":
        """The sums that `save` left: those of the events that it kept.

        Raises:
            DataError: the file is missing or is not such a file.
        """
        kept = _read(path)
        gram = cls(nearness=kept.about["nearness"], sequel=kept.about["sequel"])
        gram.add(_events(kept))
        return gram

    def _become(self, user: str, old: tuple[Event, ...], new: tuple[Event, ...]) -> bool:
        """Change one user's history, and the sums by what differs; whether anything did."""
        if old == new:
            return False
        if new[: len(old)] == old:  # events at the end, as they come: the pairs among the others stay
            self._shift(new, len(old), +1)
        else:
            self._shift(old, 0, -1)
            self._shift(new, 0, +1)
        if new:
            self._histories[user] = new
        else:
            del self._histories[user]
        return True

    def _shift(self, history: tuple[Event, ...], first: int, sign: int) -> None:
        """Add the pairs of a history whose later item is at or after `first` (in events) to the sums, or take them."""
        begin = sum(event.liked > 0 for event in history[:first])
        liked = [event for event in history if event.liked > 0]
        places = np.array([self._placed(event.item) for event in liked], dtype=np.int64)
        weights = np.array([event.liked for event in liked])
        near = self.nearness ** np.arange(len(liked), 0, -1)  # of the items before, the last one counts most
        soon = self.sequel ** np.arange(_FAR - 1, -1, -1)
        for later in range(begin, len(liked)):
            place, weight = places[later], weights[later]
            begins = max(0, later - _REACH)
            others = later - begins
            units = np.rint(near[len(liked) - others :] * weights[begins:later] * weight * UNIT).astype(np.int64)
            own = round(weight * weight * UNIT)
            self._own[place] += sign * own
            self._join(places[begins : later + 1], np.full(others + 1, place), sign * np.append(units, own))
            first_near = max(0, later - _FAR)
            before = places[first_near:later]
            steps = np.rint(soon[_FAR - len(before) :] * weights[first_near:later] * weight * UNIT).astype(np.int64)
            back = np.rint(steps * _BACKWARDS).astype(np.int64)
            self._after.add(before, np.full(len(before), place), sign * steps)
            self._after.add(np.full(len(before), place), before, sign * back)

    def _placed(self, name: str) -> int:
        if name not in self._place:
            self._place[name] = len(self._place)
            self._own.append(0)
        return self._place[name]

    def _join(self, one: Whole, other: Whole, units: Whole) -> None:
        self._together.add(np.minimum(one, other), np.maximum(one, other), units)

    def _block(self, sums: PairSums, items: Sequence[str]) -> NDArray[np.float64]:
        """The sums among these items (items, items), in units of one."""
        settled = sums.settled(len(self._place))
        rows = np.array([row for row, name in enumerate(items) if name in self._place], dtype=np.int64)
        places = np.array([self._place[name] for name in items if name in self._place], dtype=np.int64)
        found = np.zeros((len(items), len(items)))
        if len(places):
            block = settled[places][:, places].toarray() / UNIT
            found[np.ix_(rows, rows)] = block
        return found


def histories(path: Path) -> dict[str, tuple[Event, ...]]:
    """What each user did, oldest first, out of the file that `ItemGram.save` left; the sums are not made.

    Raises:
        DataError: the file is missing or is not such a file.
    """
    return {user: tuple(own) for user, own in groupby(_events(_read(path)), key=lambda event: event.user)}


def _read(path: Path) -> SumsFile:
    kept = SumsFile.read(path)
    kept.check_format(path, _FORMAT)
    return kept


def _events(kept: SumsFile) -> Iterator[Event]:
    """User by user, each one's oldest first."""
    users, items = kept.about["users"], kept.about["items"]
    columns = (kept.tensors[f"event_{name}"].tolist() for name in ("user", "item", "at", "liked"))
    for user, item, at, liked in zip(*columns, strict=True):
        yield Event(user=users[user], item=items[item], at=_EPOCH + at * _MICROSECOND, liked=liked)


def _regressed(gram: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weights with which each item is best told from all others (n, n); `gram` is used up."""
    size = len(gram)
    factor, failed = linalg.lapack.spotrf(gram.T, lower=0, overwrite_a=1)
    inverse, failed_too = linalg.lapack.spotri(factor, lower=0, overwrite_c=1)
    if failed or failed_too:
        raise DataError(f"the sums of {size} items cannot be solved; raise the ridge")
    upper = np.triu(inverse)
    upper += np.triu(upper, 1).T
    weights = -upper / np.diag(upper)  # column j: what item j is told by
    weights[np.diag_indices(size)] = 0.0
    return np.ascontiguousarray(weights, dtype=np.float32)


def _by_user(events: Iterable[Event]) -> Iterator[tuple[str, Iterator[Event]]]:
    return groupby(sorted(events, key=lambda event: event.user), key=lambda event: event.user)


def user_key(user: str) -> int:
    """The number by which the sums know a user; the same in every process."""
    return int.from_bytes(hashlib.blake2b(user.encode(), digest_size=8).digest(), "big")


def _moment(event: Event) -> tuple[datetime, str]:
    """Events of one user in an order that does not depend on how they came."""
    return event.at, event.item


def _since_epoch(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND
