"""A page of a list that is longer, and the ways to the pages beside it."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

__all__ = ["ROWS", "classes_found", "page_after", "paged"]

Row = TypeVar("Row")
ROWS = 50


def paged(
    rows: Sequence[Row], by: str, place: Callable[[Row], object], *, begun: bool
) -> tuple[Sequence[Row], Mapping[str, object]]:
    """Return the rows of a page, and the queries of the pages beside it, as the templates' `pager` takes them.

    Args:
        rows: those from the page's first one on; where there are more than `ROWS`, another page follows.
        by: the query that says where a page begins.
        place: its value, which a row stands at.
        begun: whether other rows stand before these.

    >>> shown, beside = paged(range(60), "after", lambda row: row, begun=False)
    >>> len(shown), beside
    (50, {'older': {'after': 49}, 'newer': None})
    """
    older = {by: place(rows[ROWS - 1])} if len(rows) > ROWS else None
    return rows[:ROWS], {"older": older, "newer": {by: None} if begun else None}


def page_after(
    listed: Sequence[Row], name: Callable[[Row], str], after: str
) -> tuple[Sequence[Row], Mapping[str, object]]:
    """Return the page of a list, sorted by name, that begins after this one; the first page without."""
    place = bisect_right(listed, after, key=name) if after else 0
    return paged(listed[place:], "after", name, begun=place > 0)


def classes_found(listed: Sequence[Row], label: Callable[[Row], str], find: str, behind: int) -> Mapping[str, object]:
    """What the template `classes.html` takes: a page of the classes whose names hold `find`, in the order given.

    It begins behind so many of them; `all` is how many there are before anything is looked for.

    >>> shown = classes_found([f"class {n}" for n in range(120)], str, " Class 1", 0)
    >>> shown["classes"][:2], shown["all"], shown["found"], shown["older"], shown["newer"]
    (['class 1', 'class 10'], 120, 31, None, None)
    >>> classes_found(list(map(str, range(120))), str, "", 50)["older"]
    {'behind': 100}
    """
    wanted = find.strip().casefold()
    found = [row for row in listed if wanted in label(row).casefold()]
    return {
        "classes": found[behind : behind + ROWS],
        "all": len(listed),
        "found": len(found),
        "find": find.strip(),
        "older": {"behind": behind + ROWS} if len(found) > behind + ROWS else None,
        "newer": {"behind": max(0, behind - ROWS) or None} if behind else None,
    }
