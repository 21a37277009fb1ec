"""What one list is asked for, as a client asks it and as it is answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking import Profile
from perennial.continual.tasks.ranking import Query
from perennial.continual.tasks.ranking.rows import EVERYBODY
from perennial.exporters.ranking.signature import PLACES

__all__ = ["Asked", "asked_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One list for a user. A client says no time; whoever knows the user adds it, and what is known of them by then.

    >>> Asked(user="u7").count
    10
    """

    user: str
    segment: str = EVERYBODY
    context: str = ""  # in words
    count: int = 10
    candidates: tuple[str, ...] | None = None  # nothing else is listed
    withheld: tuple[str, ...] = ()  # what a business rule takes out
    language: str = ""  # only items of this language, or of none
    at: datetime | None = None
    profile: Profile | None = None  # None: nobody looked
    lottery: int | None = None  # draws what is explored; None: nothing is

    def __post_init__(self) -> None:
        if not self.user.strip():
            raise DataError("a list is asked for nobody; name a user")
        if not 1 <= self.count <= PLACES:
            raise DataError(f"a list of {self.count} items is asked for; ask for 1 to {PLACES}")

    @property
    def known(self) -> Profile:
        """What is known of the user."""
        return self.profile or Profile(user=self.user)


def asked_of(inputs: Sequence[Asked | Query]) -> list[Asked]:
    """The same lists, those that are a task's own queries among them."""
    return [asked if isinstance(asked, Asked) else _of_query(asked) for asked in inputs]


def _of_query(query: Query) -> Asked:
    return Asked(user=query.user, segment=query.segment, context=query.context, at=query.at)
