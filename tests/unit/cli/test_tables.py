"""Tables at every width: nothing is cut, whatever the next command needs can be copied."""

import pytest
from rich.cells import cell_len

from perennial.ops.cli.console import print_table, shown

ID, OTHER = "0" * 12 + "a" * 20, "0" * 12 + "b" * 20
HASH = "f" * 64
TABLES = {
    "queue": (
        ("prediction_id", "text", "answered", "confidence", "reason"),
        [
            (ID, "my card was stolen and I need a new one today", "lost_card", 0.51, "unsure"),
            (OTHER, "hi", "x", 0.75, ""),
        ],
    ),
    "audit": (("seq", "at", "action", "hash"), [(1, "2026-01-31 12:00:00+00:00", "cycle.opened", HASH)]),
    "chinese": (("id", "text"), [(ID, "我的卡丢了" * 12)]),
    "lines": (("proposal", "texts"), [(1, "one text\nanother text\na third one")]),
    "nothing": (("version", "state"), []),
    "many": (tuple(f"column{n}" for n in range(14)), [tuple(range(14)), tuple(range(14, 28))]),
}


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 200])
@pytest.mark.parametrize("name", TABLES)
def test_no_cell_is_cut_and_no_line_runs_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    columns, rows = TABLES[name]
    print_table("A title", columns, rows)
    read = capsys.readouterr().out
    words = {word for row in rows for cell in row for word in str(cell).split() if word.isascii()}
    assert {word for word in words if word not in read} == set()
    assert "…" not in read
    said = "".join(sign for sign in read if not sign.isspace() and sign not in "│┃┏┓┗┛┡┩┴┬┳╇├┤─━└┘┌┐")
    for sign in "我的卡丢了" if name == "chinese" else "":
        assert said.count(sign) == 12
    longest = max(cell_len(word) for word in (*words, "")) + max(map(len, columns)) + 2
    assert max(map(cell_len, read.splitlines())) <= max(width, longest)


def test_a_pipe_gets_wide_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table("", *TABLES["queue"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if ID in line)
    assert "lost_card" in line


def test_a_narrow_terminal_gets_names_and_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    print_table("Requests", *TABLES["queue"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Requests", f"prediction_id  {ID}"]
    assert "confidence     0.51" in lines
    assert lines.count("") == 1, "one blank line between two rows"


def test_what_is_not_known_yet_is_shown_as_such_within_a_value_of_several() -> None:
    gain = {"value": None, "low": None, "rows": 180, "found": False}
    assert shown(gain) == "value -, low -, rows 180, found False"
    assert shown({"value": 0.123456, "names": ("a", "b")}) == "value 0.1235, names a, b"
    assert shown({}) == "-"
