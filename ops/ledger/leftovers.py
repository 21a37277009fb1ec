"""Copies of rows in the free space of SQLite's pages: where they are, and how they are overwritten without a VACUUM.

SQLite overwrites what it deletes (`secure_delete`). But rows that move when a page is split leave copies behind in the
gap between the page's cell pointers and its cells, and deleting the rows later does not overwrite these. VACUUM does,
and keeps writers out for as long as the whole file takes. Here only pages that hold what is sought are touched.

Source: https://www.sqlite.org/fileformat2.html, sections 1.2 (database header), 1.6 (b-tree pages), 2.6 (the schema).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from struct import Struct
from typing import IO

from sqlalchemy import JSON, Connection, String, Table, UniqueConstraint, text

from perennial.ops.ledger import schema
from perennial.ops.safety.sqlite_files import opened

__all__ = ["Holds", "Leftover", "gap_of", "leftovers", "overwrite", "page_size"]

Holds = Callable[[bytes], object]  # true of bytes that hold something that is sought

_HEADER = Struct(">BHHHB")  # kind, first free block, cells, where their content begins, fragmented bytes
_INDEX, _TABLE, _INDEX_LEAF, _TABLE_LEAF = 2, 5, 10, 13
_LENGTHS = {_INDEX: 12, _TABLE: 12, _INDEX_LEAF: 8, _TABLE_LEAF: 8}  # of the header, by kind
_AT_ONCE = 1_024  # pages read, or looked through, at once
_UNUSED = 6  # bytes of a gap that are left as they are: a length's own length may grow by the filling


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A page whose gap holds a copy, and the table or index whose page it is: None where it is of neither by now."""

    page: int
    table: str | None = None
    index: str | None = None


def page_size(path: Path) -> int:
    """Bytes of a page of the file."""
    with opened(path) as file:
        file.seek(16)
        size = int.from_bytes(file.read(2), "big")
    return 65_536 if size == 1 else size


def leftovers(
    path: Path, holds: Holds, roots: Sequence[tuple[str, str, str, int]], among: Sequence[int] = ()
) -> list[Leftover]:
    """The pages whose gaps hold what is sought, as the file is; what lies in the write-ahead log is not seen.

    Args:
        path: the database's file.
        holds: tells whether bytes hold something sought.
        roots: type, name, table and root page of each tree, out of `sqlite_schema`.
        among: look at these pages alone; empty is all of them.
    """
    size = page_size(path)
    with opened(path) as file:
        found = list(_holding(_gaps(file, size, among), holds))
        if not found:
            return []
        owners = _owners(file, size, roots, frozenset(found))
    return [owners.get(page, Leftover(page=page)) for page in found]


def overwrite(connection: Connection, path: Path, leftover: Leftover) -> bool:
    """Overwrite the page's gap, inside a transaction that is committed afterwards; False where nothing here can.

    An index is built anew: its own pages alone, which takes about a second for a million rows. In a table one row of
    the page is made so long that the page is full, and as short as it was again. Where it is the page's only row, some
    30 bytes at the start of the gap stay.
    """
    if leftover.index is not None:
        connection.exec_driver_sql(f'REINDEX "{leftover.index}"')
        return True
    table = schema.metadata.tables.get(leftover.table or "")
    column = None if table is None else _loose(table)
    if table is None or column is None:
        return False
    size = page_size(path)
    with opened(path) as file:
        page = _page(file, size, leftover.page)
    if (shortest := _shortest_row(page, size)) is None:
        return False
    length, row = shortest
    longer = min(max(1, len(gap_of(page)) - _UNUSED), size - 35 - length - _UNUSED)
    place = text(f'SELECT "{column}" FROM "{table.name}" WHERE rowid = :row')
    before = connection.execute(place, {"row": row}).first()
    if before is None or longer < 1:
        return False
    put = text(f'UPDATE "{table.name}" SET "{column}" = :value WHERE rowid = :row')
    connection.execute(put, {"value": f"{before[0] or ''}{' ' * longer}", "row": row})
    connection.execute(put, {"value": before[0], "row": row})
    return True


def _loose(table: Table) -> str | None:
    """A column of texts in no key and no index, so that changing it touches the row alone."""
    bound = {column.name for index in table.indexes for column in index.columns} | set(table.primary_key.columns.keys())
    unique = (each for each in table.constraints if isinstance(each, UniqueConstraint))
    bound |= {column.name for constraint in unique for column in constraint.columns}
    loose = [column for column in table.columns if column.name not in bound and not column.foreign_keys]
    return next((column.name for column in loose if isinstance(column.type, String | JSON)), None)


def _holding(gaps: Iterable[tuple[int, bytes]], holds: Holds) -> Iterator[int]:
    """The pages whose gap holds what is sought; many gaps are looked through together, which costs less."""
    rest = iter(gaps)
    while some := list(islice(rest, _AT_ONCE)):
        if holds(b"\0\0".join(gap for _, gap in some)):
            yield from (page for page, gap in some if holds(gap))


def _gaps(file: IO[bytes], size: int, among: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Each page's number and gap, where something is in it."""
    for number, page in _pages(file, size, among):
        gap = gap_of(page)
        if gap.strip(b"\0"):
            yield number, gap


def _pages(file: IO[bytes], size: int, among: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    if among:
        yield from ((number, _page(file, size, number)) for number in among)
        return
    file.seek(0)
    number = 1
    while block := file.read(size * _AT_ONCE):
        for start in range(0, len(block), size):
            yield number, block[start : start + size]
            number += 1


def _page(file: IO[bytes], size: int, number: int) -> bytes:
    file.seek((number - 1) * size)
    return file.read(size)


def gap_of(page: bytes) -> bytes:
    """What lies between a page's cell pointers and its cells; nothing where it is no page of a tree.

    Nor of the first page, which holds the schema behind the database's header.
    """
    if len(page) < _HEADER.size or page[0] not in _LENGTHS:
        return b""
    kind, _, cells, content, _ = _HEADER.unpack_from(page)
    return page[_LENGTHS[kind] + 2 * cells : content or 65_536]


def _owners(
    file: IO[bytes], size: int, roots: Sequence[tuple[str, str, str, int]], wanted: frozenset[int]
) -> Mapping[int, Leftover]:
    """Whose pages the wanted ones are."""
    owners: dict[int, Leftover] = {}
    for kind, name, table, root in roots:
        level = [root]
        while level:
            mine = wanted.intersection(level)
            owners |= {page: Leftover(page=page, table=table, index=name if kind == "index" else None) for page in mine}
            inner = level if any(_children(_page(file, size, level[0]))) else []  # all leaves are equally deep
            level = [child for number in inner for child in _children(_page(file, size, number))]
    return owners


def _children(page: bytes) -> Iterator[int]:
    """The pages below an inner page of a tree; none below a leaf."""
    if len(page) < _HEADER.size or page[0] not in {_INDEX, _TABLE}:
        return
    _, _, cells, _, _ = _HEADER.unpack_from(page)
    for place in range(12, 12 + 2 * cells, 2):
        cell = int.from_bytes(page[place : place + 2], "big")
        yield int.from_bytes(page[cell : cell + 4], "big")
    yield int.from_bytes(page[8:12], "big")


def _shortest_row(page: bytes, size: int) -> tuple[int, int] | None:
    """The length and the id of the shortest row that lies wholly on a leaf of a table."""
    if len(page) < size or page[0] != _TABLE_LEAF:
        return None
    _, _, cells, _, _ = _HEADER.unpack_from(page, 0)
    rows = []
    for place in range(8, 8 + 2 * cells, 2):
        cell = int.from_bytes(page[place : place + 2], "big")
        length, cell = _varint(page, cell)
        row, _ = _varint(page, cell)
        if length <= size - 35:
            rows.append((length, row))
    return min(rows, default=None)


def _varint(page: bytes, place: int) -> tuple[int, int]:
    """A number of one to nine bytes, and the place behind it."""
    value = 0
    for count in range(9):
        byte = page[place + count]
        if count == 8:
            return (value << 8) | byte, place + 9
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            return value, place + count + 1
    return value, place + 9
