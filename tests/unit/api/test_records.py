"""A table that is not perfect loses no sound row, and says what is wrong with the others."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from perennial.continual.errors import DataError
from perennial.ops.api.records import CSV, Record, records_of


def read(body: bytes, kind: str = CSV) -> list[Record]:
    """The records of a body that comes in parts which end anywhere."""

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    async def whole() -> list[Record]:
        return [record async for record in records_of(parts(), kind)]

    return asyncio.run(whole())


def test_a_quote_within_a_cell_is_a_character_and_joins_no_rows() -> None:
    table = b'text,label\nit is 5" wide,screen\nit is 7" wide,screen\nit is 9" wide,screen\n'
    assert read(table) == [{"text": f'it is {size}" wide', "label": "screen"} for size in (5, 7, 9)]


def test_a_quoted_cell_holds_lines_and_commas_and_quotes() -> None:
    table = b'text,label\n"two ""big"",\n\nlines""",card\n"",x\nlast,"a, b"\n'
    assert read(table) == [
        {"text": 'two "big",\n\nlines"', "label": "card"},
        {"label": "x"},
        {"text": "last", "label": "a, b"},
    ]


def test_a_row_that_is_no_csv_is_told_and_the_others_are_read() -> None:
    wrong, sound = read(b"text,label\nfirst\rsecond,card\nsound,card\n")
    assert isinstance(wrong, str)
    assert wrong.startswith("the row is no CSV: ")
    assert sound == {"text": "sound", "label": "card"}


def test_a_table_whose_lines_end_as_on_an_old_mac_is_refused() -> None:
    with pytest.raises(DataError, match="the first line is no CSV"):
        read(b"text,label\ra,card\rb,card\r")
