"""A user of a ranking as they may see themselves: what they did, what they like in words, and what they asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perennial.continual.errors import DataError, NotFound
from perennial.continual.learning.ranking import Item, ItemTexts, Profile, profile_words
from perennial.continual.learning.ranking.files import admit_item
from perennial.continual.learning.ranking.item_texts import words_of
from perennial.continual.preparation import admit_key, clean, shown
from perennial.continual.tasks.ranking import Ranking
from perennial.ops.commands.catalogue import catalogue
from perennial.ops.store.user_events import UserEvents
from perennial.ops.store.workspace import Workspace

__all__ = ["Done", "UserProfile", "UserWishes", "Wish", "Word", "change_wishes", "user_profile"]

_MOST_WEIGHT = 10.0
_MOST_WORDS = 2_000  # characters of a wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Something that a user did with an item; `text` is empty where the catalogue lacks it. `at` is in ISO form."""

    item: str
    text: str
    at: str
    liked: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word, and how much it counts for a user; below 0 it counts against an item."""

    word: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UserProfile:
    """All that is kept of a user for the next list. `words` tell it in short: from what they liked and asked for."""

    model: str
    user: str
    words: tuple[Word, ...]
    wanted: tuple[Word, ...]
    blocked: tuple[str, ...]
    events: tuple[Done, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Words that a user wants more of (above 0) or less of (below 0); 0 forgets them."""

    text: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not -_MOST_WEIGHT <= self.weight <= _MOST_WEIGHT:
            raise DataError(f"a wish weighs {self.weight}; give -{_MOST_WEIGHT:.0f} to {_MOST_WEIGHT:.0f}")
        if not words_of(clean(self.text[:_MOST_WORDS])):
            raise DataError(f"a wish says {shown(self.text)}, which has no word; name words of the items' texts")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserWishes:
    """What a user asks for: items never shown, items shown again, and words."""

    block: Sequence[str] = ()
    unblock: Sequence[str] = ()
    want: Sequence[Wish] = ()


def user_profile(workspace: Workspace, model: str, user: str) -> UserProfile:
    """What is known of a user; nothing is known of somebody new.

    Raises:
        DataError: the name is none. NotFound: the model has no users. DependencyUnreachable: the file cannot be read.
    """
    named, items = _admitted(workspace, model, user), catalogue(workspace, model)
    if not (path := workspace.user_events(model)).is_file():
        return _told(model, Profile(user=named), items)
    with UserEvents(path) as users:
        return _told(model, users.profile(named), items)


def change_wishes(
    workspace: Workspace, model: str, user: str, wishes: UserWishes, *, dry_run: bool = False
) -> UserProfile:
    """Keep what a user asks for, which counts in their next list, and tell their profile as it is then.

    Raises:
        DataError: a name or a wish breaks its rule, or the catalogue lacks an item that is blocked.
        NotFound: the model has no users. DependencyUnreachable: the file cannot be written.
    """
    named, items = _admitted(workspace, model, user), catalogue(workspace, model)
    known = {item.name for item in items}
    block, unblock = [admit_item(one) for one in wishes.block], [admit_item(one) for one in wishes.unblock]
    if strange := [item for item in block if item not in known]:
        raise DataError(f"the catalogue of {model} has no item {shown(strange[0])}; block one that it has")
    wanted = [(clean(wish.text[:_MOST_WORDS]), wish.weight) for wish in wishes.want]
    if not dry_run:
        with UserEvents(workspace.user_events(model)) as users:
            for item in block:
                users.block(named, item)
            for item in unblock:
                users.block(named, item, blocked=False)
            for text, weight in wanted:
                users.want(named, text, weight)
    return user_profile(workspace, model, named)


def _admitted(workspace: Workspace, model: str, user: str) -> str:
    """The user's name as it is kept."""
    if workspace.settings.task_of(model) != Ranking.name:
        raise NotFound(f"model {model} is of task {workspace.settings.task_of(model)!r}, which knows no users")
    if (named := admit_key(user, field="user")) is None:
        raise DataError("user is empty; name one")
    return named


def _told(model: str, profile: Profile, items: Sequence[Item]) -> UserProfile:
    texts = {item.name: item.text for item in items}
    words = profile_words(profile, ItemTexts.of(items))
    return UserProfile(
        model=model,
        user=profile.user,
        words=_words(words),
        wanted=_words(profile.wanted),
        blocked=tuple(sorted(profile.blocked)),
        events=tuple(
            Done(item=one.item, text=texts.get(one.item, ""), at=one.at.isoformat(), liked=one.liked)
            for one in profile.events
        ),
    )


def _words(weights: Mapping[str, float]) -> tuple[Word, ...]:
    return tuple(Word(word=word, weight=round(weight, 4)) for word, weight in weights.items())
