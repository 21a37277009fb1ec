"""What a caller has seen, as a condition of what they ask: an ETag of a route, and the `If-Match` that names it."""

import re
from typing import Annotated

from fastapi import Header

from perennial.continual.errors import DataError
from perennial.continual.preparation import shown
from perennial.continual.records import Route
from perennial.continual.route import ExpectedRoute

__all__ = ["IF_MATCH", "IfMatch", "etag_of", "expected_route"]

IF_MATCH = "If-Match"
_TAGS = r'^(\*|"[0-9]{1,18}"(, ?"[0-9]{1,18}"){0,9})$'
_EPOCH = re.compile(r'"([0-9]{1,18})"')
IfMatch = Annotated[
    str | None,
    Header(
        alias=IF_MATCH,
        pattern=_TAGS,
        description="the ETag of the route that you have seen; where it is another one by now, nothing is done (412)",
    ),
]


def etag_of(route: Route) -> str:
    """The tag of a route: its epoch, which grows with every change."""
    return f'"{route.epoch}"'


def expected_route(if_match: str | None, champion: int | None) -> ExpectedRoute:
    """What must hold of the route for a command to be carried out.

    Raises:
        DataError: the header is none of this API's tags.
    """
    if if_match is None or if_match == "*":
        return ExpectedRoute(champion=champion)
    epochs = frozenset(int(number) for number in _EPOCH.findall(if_match))
    if not epochs:
        raise DataError(f"If-Match is {shown(if_match)}; give the ETag of GET /v1/models/NAME/route")
    return ExpectedRoute(champion=champion, epochs=epochs)
