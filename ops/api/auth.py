"""Who may do what over HTTP: each operation says which role it needs, and for which models."""

from enum import Enum
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from perennial.ops.safety.roles import CALLER, EVERY, Caller, Role

__all__ = ["Needs", "NeedsSomewhere", "Where", "bearer_of", "check", "labeller", "need_of", "operator", "viewer"]

_bearer = HTTPBearer(auto_error=False, description="a token of `perennial token new`; none where no token is set")


class Where(Enum):
    """For what the role of an operation is asked."""

    MODEL = "the model in its path; what has none there belongs to all of them"
    SOMEWHERE = "any model: the operation itself asks for the one in its body, or tells of those that are seen"


class Needs:
    """A dependency that names the least role of an operation and gives it the actor's name.

    The guard has checked the role before the operation's body was read.
    """

    where = Where.MODEL

    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, request: Request, _: Annotated[Any, Depends(_bearer)] = None) -> str:
        """The actor, as the audit log names it."""
        return caller_of(request).name


class NeedsSomewhere(Needs):
    """The same for an operation that learns from its body which model it is for, or tells of several."""

    where = Where.SOMEWHERE

    def __call__(self, request: Request, _: Annotated[Any, Depends(_bearer)] = None) -> Caller:  # type: ignore[override]
        """Who asks. The operation has to `check` the model, or to leave out those that are not seen."""
        return caller_of(request)


viewer, labeller, operator = Needs(Role.VIEWER), Needs(Role.LABELLER), Needs(Role.OPERATOR)


def caller_of(request: Request) -> Caller:
    """Return who asks, of an operation that is not open to everybody."""
    caller: Caller = request.scope[CALLER]
    return caller


def check(caller: Caller, needed: Role, model: str = EVERY) -> None:
    """Return when a role is enough for a model, or for what belongs to none.

    Raises:
        HTTPException: 403 otherwise; it does not tell whether there is such a model.
    """
    if not caller.may(needed, model):
        held = caller.role(model)
        of = "" if model == EVERY else " for this model"
        raise HTTPException(403, f"the role{of} is {'none' if held is None else held.word}; {needed.word} is needed")


def need_of(route: BaseRoute) -> tuple[Role, Where] | None:
    """The least role that an operation or a page asks for, and for what; None for what is open to everybody."""
    if not isinstance(route, APIRoute):
        needs: str | None = getattr(route, "needs", None)  # of a page
        where = Where.SOMEWHERE if getattr(route, "somewhere", False) else Where.MODEL
        return None if needs is None else (Role[needs.upper()], where)
    asked = [each.call for each in route.dependant.dependencies if isinstance(each.call, Needs)]
    return max(((each.role, each.where) for each in asked), key=lambda need: need[0], default=None)


def bearer_of(headers: Headers) -> str | None:
    """The token that a request carries; None without exactly one."""
    seen = headers.getlist("authorization")
    scheme, _, token = seen[0].partition(" ") if len(seen) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else None
