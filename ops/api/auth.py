"""Who may do what over HTTP: tokens have roles, and each operation says which role it needs."""

import secrets
from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from perennial.ops.safety.tokens import hashed
from perennial.ops.settings import ApiSettings

__all__ = ["ACTOR", "ROLE", "Needs", "Role", "Tokens", "labeller", "operator", "viewer"]

ACTOR = "perennial.actor"
ROLE = "perennial.role"  # of a page's visitor, by name; None for a stranger
_bearer = HTTPBearer(auto_error=False, description="a token of `perennial token new`; none where no token is set")


class Role(IntEnum):
    """Each may do what those before it may."""

    VIEWER = 0
    LABELLER = 1
    OPERATOR = 2


class Needs:
    """A dependency that names the least role of an operation and gives it the actor's name.

    The guard has checked the role before the operation's body was read.
    """

    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, request: Request, _: Annotated[Any, Depends(_bearer)] = None) -> str:
        """The actor, as the audit log names it."""
        return str(request.scope[ACTOR])


viewer, labeller, operator = Needs(Role.VIEWER), Needs(Role.LABELLER), Needs(Role.OPERATOR)


class Tokens:
    """The tokens that are let in, known by their hashes only."""

    def __init__(self, settings: ApiSettings) -> None:
        self._roles = {name: Role[role.upper()] for name, role in settings.tokens.items()}

    def actor(self, headers: Headers, needed: Role) -> str:
        """The name of who asks; `local` where no token is asked for.

        Raises:
            HTTPException: 401 without a known token, 403 with one of too low a role.
        """
        if not self._roles:
            return "local"
        role = self._role(headers)
        if role is None:
            raise HTTPException(401, "give a bearer token: Authorization: Bearer ...", {"WWW-Authenticate": "Bearer"})
        return _named(role, needed)

    def visitor(
        self, headers: Headers, signed_in_with: str | None, needed: Role | None
    ) -> tuple[str | None, str | None]:
        """The name and the role of a page's visitor, who signed in with the token of this hash; None for a stranger.

        Raises:
            HTTPException: 401 without a known token where one is needed, 403 with one of too low a role.
        """
        if not self._roles:
            return "local", _named(Role.OPERATOR)
        role = self._roles.get(signed_in_with or "", self._role(headers))
        if role is None and needed is not None:
            raise HTTPException(401, "sign in with a token")
        name = None if role is None else _named(role, needed)
        return name, name

    def known(self, headers: Headers) -> str | None:
        """The name of who asks for what is open to everybody; None for a stranger, where tokens are asked for."""
        if not self._roles:
            return "local"
        role = self._role(headers)
        return None if role is None else _named(role)

    def _role(self, headers: Headers) -> Role | None:
        headers_seen = headers.getlist("authorization")
        scheme, _, token = headers_seen[0].partition(" ") if len(headers_seen) == 1 else ("", "", "")
        if scheme.lower() != "bearer":
            return None
        return _looked_up(self._roles, hashed(token.strip()))


def _named(role: Role, needed: Role | None = None) -> str:
    """The role by its name, which is the actor's.

    Raises:
        HTTPException: 403 where a higher one is needed.
    """
    if needed is not None and role < needed:
        raise HTTPException(403, f"this token's role is {role.name.lower()}; {needed.name.lower()} is needed")
    return role.name.lower()


def _looked_up(roles: Mapping[str, Role], wanted: str) -> Role | None:
    """Compare with every hash, so that the time says nothing of which one it is."""
    strongest = None
    for name, role in roles.items():
        if secrets.compare_digest(name, wanted):
            strongest = role
    return strongest
