"""Pages for people, on the port of the API: what the guard and the errors must know of whoever serves them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Scope

from perennial.ops.safety.roles import Caller

__all__ = ["Pages"]


class Pages(Protocol):
    """The console, as the API sees it. A route's `needs` is the least role, or None for what is open to everybody."""

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes of the pages."""
        ...

    def covers(self, path: str) -> bool:
        """Tell whether a path is one of a page, known or not."""
        ...

    def cookie_of(self, headers: Headers) -> str:
        """Return the cookie of the browser's session; empty where it has none."""
        ...

    def signed_in(self, cookie: str, callers: Mapping[str, Caller]) -> Caller | None:
        """Return whose session a cookie is, of these by what a session begins with; None for any other cookie."""
        ...

    def told(self, scope: Scope, status: int, detail: str) -> Response:
        """Tell an error as a page; a visitor who is not signed in is led to the place for it."""
        ...
