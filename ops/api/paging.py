"""Pages of a list: each begins after the row that the one before it ended with, so that new rows move nothing."""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar
from urllib.parse import quote, urlencode

from fastapi import Query, Request, Response

__all__ = ["AFTER", "NamePage", "NumberPage", "Page"]

Row = TypeVar("Row")
AFTER = "after"
_MOST = 1_000
_Limit = Annotated[int, Query(ge=1, le=_MOST, description="rows of a page")]
_MEANING = 'the row that the page before this one ended with; its answer\'s `Link: <...>; rel="next"` names it'


class Page:
    """A page that was asked for. Where rows follow it, the answer's `Link` leads to the next one (RFC 8288)."""

    def __init__(self, request: Request, response: Response, limit: int) -> None:
        self._request, self._response, self._limit = request, response, limit

    @property
    def rows(self) -> int:
        """How many rows to look for: one more than the page has, which tells whether another page follows."""
        return self._limit + 1

    def cut(self, found: Sequence[Row], key: Callable[[Row], object]) -> list[Row]:
        """The page's rows of those that were found, which stand in the list's order; `key` is what `after` names."""
        shown = list(found[: self._limit])
        if len(found) > self._limit:
            asked = {**self._request.query_params, AFTER: key(shown[-1])}
            place = f"{quote(self._request.url.path)}?{urlencode(asked)}"
            self._response.headers["Link"] = f'<{place}>; rel="next"'
        return shown


class NumberPage(Page):
    """A page of a list whose rows have numbers."""

    def __init__(
        self,
        request: Request,
        response: Response,
        limit: _Limit = 100,
        after: Annotated[int | None, Query(ge=0, lt=2**63, description=_MEANING)] = None,
    ) -> None:
        super().__init__(request, response, limit)
        self.after = after


class NamePage(Page):
    """A page of a list whose rows have names, sorted by them."""

    def __init__(
        self,
        request: Request,
        response: Response,
        limit: _Limit = 100,
        after: Annotated[str, Query(max_length=600, description=_MEANING)] = "",
    ) -> None:
        super().__init__(request, response, limit)
        self.after = after

    def of(self, listed: Sequence[Row], name: Callable[[Row], str]) -> list[Row]:
        """The page of a whole list, in whatever order it comes."""
        follow = sorted((row for row in listed if not self.after or name(row) > self.after), key=name)
        return self.cut(follow, name)
