"""Tables drawn with lines are read cell by cell, and tables inside of texts are left to them."""

import re
from pathlib import Path

import pytest

from perennial.continual.errors import DataError
from perennial.continual.preparation import FileReading, read_labelled_file

ROWS = [("where is my card", "arrival"), ("I lost it | help", "loss"), ("my card was stolen", "theft")]
NOTED = [("a", "x"), ("b", "y")]


def _read(folder: Path, content: str, name: str = "rows.md", **stated: str) -> list[tuple[str, str]]:
    (folder / name).write_text(content, encoding="utf-8")
    return [(row.text, row.label) for row in read_labelled_file(folder / name, reading=FileReading(**stated))]


DRAWN = {
    "markdown": "| text | label |\n|:--|--:|\n"
    + "".join(f"| {t.replace('|', chr(92) + '|')} | {n} |\n" for t, n in ROWS),
    "markdown under a title": "# Mine\n\n| text | label |\n|---|---|\n| a \\| b | x |\n",
    "without edges": "text | label\n--- | ---\na \\| b | x\n",
    "psql": " text  | label \n-------+-------\n a \\| b | x\n(1 row)\n",
    "grid": "+------+---+\n| text | label |\n+======+===+\n| a \\| b | x |\n+------+---+\n",
}


@pytest.mark.parametrize("form", DRAWN)
def test_a_drawn_table_is_read_without_its_lines(tmp_path: Path, form: str) -> None:
    assert _read(tmp_path, DRAWN[form]) == (ROWS if form == "markdown" else [("a | b", "x")])


def test_what_stands_under_a_drawn_table_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 5: 1 fields, too few to hold text and label"):
        _read(tmp_path, "| text | label |\n|---|---|\n| a | x |\n\nmore words\n")


EMPTY_CELLS = {
    "psql": " note | text | label \n------+------+-------\n      | a    | x     \n n    | b    | y     \n(2 rows)\n",
    "psql, last": " text | label | note \n------+-------+------\n a    | x     | \n b    | y     | n\n",
    "markdown": "| note | text | label |\n|---|---|---|\n| | a | x |\n| n | b | y |\n",
    "markdown, last": "| text | label | note |\n|---|---|---|\n| a | x | |\n| b | y |\n",
    "markdown without edges": "note | text | label\n--- | --- | ---\n | a | x\nn | b | y\n",
    "edges of the header alone": "| note | text | label |\n--- | --- | ---\n| | a | x |\n| n | b | y |\n",
    "edges of the rule alone": "note | text | label\n|---|---|---|\n| | a | x |\nn | b | y\n",
    "grid": "+---+---+---+\n| note | text | label |\n+---+---+---+\n|   | a | x |\n| n | b | y |\n+---+---+---+\n",
    "org": "| note | text | label |\n|---+---+---|\n|   | a | x |\n| n | b | y |\n",
}


@pytest.mark.parametrize("form", EMPTY_CELLS)
def test_an_empty_cell_moves_no_other(tmp_path: Path, form: str) -> None:
    assert _read(tmp_path, EMPTY_CELLS[form]) == NOTED


@pytest.mark.parametrize(("row", "column"), [(" | x", "text"), (" a |", "label"), (" a | ", "label")])
def test_an_empty_cell_of_a_table_without_edges_is_refused(tmp_path: Path, row: str, column: str) -> None:
    with pytest.raises(DataError, match=rf"line 3: column '{column}' is empty"):
        _read(tmp_path, f" text | label\n------+------\n{row}\n")


@pytest.mark.parametrize("rule", ["|-|-|", "| - | - |", "|:-:|-|", "|-|-", "-|-|"])
def test_a_rule_of_one_dash_a_cell_is_no_row(tmp_path: Path, rule: str) -> None:
    assert _read(tmp_path, f"|text|label|\n{rule}\n|a|x|\n" * 2 + "|-|-|\n") == [("a", "x"), ("a", "x"), ("-", "-")]


def test_a_row_of_dashes_between_pipes_is_no_rule(tmp_path: Path) -> None:
    rows = _read(tmp_path, "key|text|label|note\n|a|x|\n|-|-|\n|b|y|\n", "rows.csv")
    assert rows == [("a", "x"), ("-", "-"), ("b", "y")]


@pytest.mark.parametrize("inside", ["| a | b |\n|---|---|", "| a | b |\n|-|-|", "| text | label |\n|---|---|"])
@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
@pytest.mark.parametrize("is_stated", [True, False])
def test_a_drawn_table_inside_a_quoted_field_is_a_text(tmp_path: Path, sign: str, inside: str, is_stated: bool) -> None:
    content = f'"text"{sign}label\n"{inside}\n| 1 | 2 |"{sign}x\nplain{sign}y\n'
    rows = _read(tmp_path, content, "rows.csv", **({"delimiter": sign} if is_stated else {}))
    assert [label for _, label in rows] == ["x", "y"]
    assert rows[0][0].endswith("| 1 | 2 |")


def test_too_many_cells_are_told_with_the_fix_of_drawn_tables(tmp_path: Path) -> None:
    fix = re.escape(r"write \| for a pipe inside a cell")
    with pytest.raises(DataError, match=rf"line 3: 3 fields, but the header has 2; {fix}"):
        _read(tmp_path, "| text | label |\n|---|---|\n| a | b | x |\n| c | y |\n")
    with pytest.raises(DataError, match=rf"every row has one field more .*, or {fix}"):
        _read(tmp_path, "| text | label |\n|---|---|\n| a | b | x |\n| c | d | y |\n")
