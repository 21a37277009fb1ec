"""Users of a ranking over HTTP: what is known of one, and what they ask for."""

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from fastapi import Depends, FastAPI, Path
from pydantic import BaseModel, ConfigDict, Field

from perennial.ops.api.auth import labeller
from perennial.ops.api.models import check_known
from perennial.ops.commands.users import UserProfile, UserWishes, Wish
from perennial.ops.ledger import Ledger
from perennial.ops.store.feedback import check_takes

__all__ = ["UserKeeper", "WishesBody", "add_users"]

_User = Annotated[str, Path(min_length=1, max_length=256)]
_Items = Annotated[Sequence[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=1_000)]


class UserKeeper(Protocol):
    """What the routes need of the running service."""

    def user(self, model: str, user: str) -> UserProfile:
        """What is known of a user."""
        ...

    def change_wishes(self, model: str, user: str, wishes: UserWishes) -> UserProfile:
        """Keep what a user asks for, and tell their profile."""
        ...


class WishBody(BaseModel):
    """Words of which a user wants more (above 0) or less (below 0); 0 forgets them."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=2_000)
    weight: float = Field(1.0, ge=-10, le=10)


class WishesBody(BaseModel):
    """Items never shown, items shown again, and words."""

    model_config = ConfigDict(extra="forbid")

    block: _Items = ()
    unblock: _Items = ()
    want: Annotated[Sequence[WishBody], Field(max_length=100)] = ()


def add_users(api: FastAPI, ledger: Ledger, keeper: UserKeeper) -> None:
    """Add the routes: whoever may give feedback for users may read what is known of them, and say what they ask for."""

    @api.get("/v1/models/{model}/users/{user}", dependencies=[Depends(labeller)])
    def user(model: str, user: _User) -> UserProfile:
        """All that is kept of a user for the next list: an export of their data."""
        _check(ledger, model)
        return keeper.user(model, user)

    @api.post("/v1/models/{model}/users/{user}/wishes", dependencies=[Depends(labeller)])
    def wishes(model: str, user: _User, body: WishesBody) -> UserProfile:
        """Keep what a user asks for; it counts in their next list."""
        _check(ledger, model)
        given: dict[str, Any] = {"want": tuple(Wish(text=one.text, weight=one.weight) for one in body.want)}
        return keeper.change_wishes(model, user, UserWishes(block=body.block, unblock=body.unblock, **given))


def _check(ledger: Ledger, model: str) -> None:
    check_known(ledger, model)
    check_takes(ledger, model, "ranking")
