"""Which column of a file plays which role."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from perennial.continual.errors import DataError
from perennial.continual.preparation.tables.table import offered, quoted

__all__ = ["Role", "bare", "known_names", "roles_of"]

_UNSEEN = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\ufeff\u200b\u200c\u200d\u200e\u200f\u2060"


@dataclass(frozen=True, slots=True)
class Role:
    """What a column is for, and the other names by which files call it."""

    name: str
    also: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that is recognised."""
        return (self.name, *self.also)


def known_names(roles: Sequence[Role], stated: Mapping[str, str]) -> frozenset[str]:
    """The names, in lower case, by which a header can be told from other lines.

    >>> sorted(known_names([Role("text"), Role("label", ("category",))], {"text": "Body"}))
    ['body', 'category', 'label']
    """
    names = {name for role in roles if role.name not in stated for name in role.names}
    return frozenset(names | {_folded(name) for name in stated.values()})


def roles_of(source: str, columns: Sequence[str], roles: Sequence[Role], stated: Mapping[str, str]) -> dict[str, int]:
    """The place of the column of each role that the file has.

    Raises:
        DataError: a stated column is not there, or more than one column could play a role.

    >>> roles_of("rows.csv", ["Text", "Topic"], [Role("text"), Role("label")], {"label": "topic"})
    {'text': 0, 'label': 1}
    """
    unknown = sorted(set(stated) - {role.name for role in roles})
    if unknown:
        raise DataError(
            f"--column {unknown[0]}=... names a role that this command does not know; it knows "
            f"{', '.join(role.name for role in roles)}"
        )
    places: dict[str, int] = {}
    for role in roles:
        if role.name in stated:
            places[role.name] = _stated_place(source, columns, role.name, stated[role.name])
        elif (place := _own_place(source, columns, role)) is not None:
            places[role.name] = place
    for role_name, place in places.items():
        other = next((name for name, there in places.items() if there == place and name != role_name), None)
        if other is not None:
            raise DataError(
                f"{source}: column {quoted(columns[place])} would be both {role_name} and {other}; state another "
                f"column for one of them, of {offered(columns)}"
            )
    return places


def bare(name: str) -> str:
    """A column's name without spaces and signs that nobody sees around it.

    >>> bare("\ufeff text\u200b")
    'text'
    """
    return name.strip(_UNSEEN)


def _folded(name: str) -> str:
    return bare(name).casefold()


def _own_place(source: str, columns: Sequence[str], role: Role) -> int | None:
    """The column that bears one of the role's names."""
    places = [place for place, name in enumerate(columns) if _folded(name) in role.names]
    if len(places) < 2:
        return places[0] if places else None
    names = [columns[place] for place in places]
    if len({_folded(name) for name in names}) == 1:
        raise DataError(
            f"{source}: column {quoted(names[0])} appears more than once in the header {offered(columns)}; rename one"
        )
    raise DataError(
        f"{source}: the columns {' and '.join(map(quoted, names))} could both hold the {role.name}; say which: "
        f"--column {role.name}={names[0]}"
    )


def _stated_place(source: str, columns: Sequence[str], role: str, stated: str) -> int:
    """The column of that very name, or else of that name in other case."""
    exact = [place for place, name in enumerate(columns) if name == stated]
    places = exact or [place for place, name in enumerate(columns) if _folded(name) == _folded(stated)]
    if len(places) == 1:
        return places[0]
    if places:
        raise DataError(f"{source}: column {quoted(stated)} appears {len(places)} times in the header; rename one")
    near = get_close_matches(stated, columns, n=1)
    hint = f"; did you mean {quoted(near[0])}?" if near else ""
    raise DataError(f"{source} has no column {quoted(stated)} for the {role}; its columns are {offered(columns)}{hint}")
