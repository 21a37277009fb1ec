"""Copies that SQLite left in the free space of its pages are overwritten, while others go on writing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perennial.ops.ledger import FeedbackRow, Ledger
from perennial.ops.ledger.leftovers import gap_of, page_size

MARK = b"the text of a person"
ROWS = 300


@pytest.fixture
def path(tmp_path, clock):
    """A ledger's file with some pages of rows and of each index, closed."""
    path = tmp_path / "ledger.db"
    with Ledger.open(f"sqlite:///{path}", clock=clock) as ledger:
        ledger.register_model("intent", {})
        rows = [
            FeedbackRow(prediction_id=f"{number * 7919 % 1009:032x}", label="fee", at=clock.now, key=f"caller {number}")
            for number in range(ROWS)
        ]
        ledger.add_feedback("intent", rows)
        for number in range(20):
            ledger.put_state("intent", f"cursor {number}", {"id": "none"})
        assert ledger.flush_deletions()
    return path


def test_copies_in_rows_and_indexes_go_and_the_rows_stay(path, clock, caplog):
    with opened(path, clock) as ledger:
        before = content(ledger)
    left_copies(path, "feedback", "feedback_history", "model_state")
    assert path.read_bytes().count(MARK) > 20
    with opened(path, clock) as ledger:
        found = ledger._leftovers(path, holds, ())
        assert {each.table for each in found} == {"feedback", "feedback_history", "model_state"}
        assert {each.index is None for each in found} == {True, False}
        assert ledger.leave_no_copies(holds)
        assert content(ledger) == before
    assert MARK not in held_by(path)
    assert "erasure.written_anew" not in caplog.text, "writers were not held for the whole file"


def test_where_no_row_can_be_made_longer_the_file_is_written_anew(path, clock, caplog):
    with opened(path, clock) as ledger:
        ledger.erase_key("intent", "caller 7")  # a tombstone is nothing but keys and a time
        before = content(ledger)
    left_copies(path, "tombstone")
    with opened(path, clock) as ledger:
        assert ledger.leave_no_copies(holds)
        assert content(ledger) == before
    assert MARK not in held_by(path)
    assert "erasure.written_anew" in caplog.text


def test_nothing_is_touched_where_no_copy_is(path, clock, caplog):
    before = path.read_bytes()
    with opened(path, clock) as ledger:
        assert ledger.leave_no_copies(holds)
    assert path.read_bytes() == before
    assert caplog.text == ""


def test_looking_at_the_pages_ends_no_lock_on_the_file(path, clock):
    elsewhere = (
        "import sqlite3, sys; held = sqlite3.connect(sys.argv[1]); held.execute('SELECT * FROM model'); held.close()"
    )
    with opened(path, clock) as ledger:
        assert ledger.leave_no_copies(holds)
        ledger.put_state("intent", "cursor 1", {"id": "some"})
        subprocess.run([sys.executable, "-c", elsewhere, str(path)], check=True, timeout=60)
        ledger.put_state("intent", "cursor 2", {"id": "some"})  # into a log that nobody has deleted


def opened(path, clock):
    return Ledger.open(f"sqlite:///{path}", clock=clock)


def holds(held):
    return MARK in held


def left_copies(path: Path, *tables: str) -> None:
    """As pages that were split hold them: all through the gaps of these tables' pages, and of their indexes'."""
    whole = path.read_bytes()
    write_gaps(path, lambda gap: (MARK * (len(gap) // len(MARK) + 1))[: len(gap)])
    with Ledger.open(f"sqlite:///{path}") as ledger:
        mine = {each.page for each in ledger._leftovers(path, holds, ()) if each.table in tables}
    marked, size = path.read_bytes(), page_size(path)
    for page in range(1, len(whole) // size + 1):
        kept = marked if page in mine else whole
        with path.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(kept[(page - 1) * size : page * size])


def write_gaps(path: Path, filled: Callable[[bytes], bytes]) -> None:
    size = page_size(path)
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // size):
            file.seek(page * size)
            held = file.read(size)
            gap = gap_of(held)
            if gap and held[0] != 5:  # the inner pages of a table never held a text
                start = (8 if held[0] > 5 else 12) + 2 * int.from_bytes(held[3:5], "big")
                file.seek(page * size + start)
                file.write(filled(gap))


def content(ledger: Ledger) -> list[tuple[object, ...]]:
    with ledger.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        tables = ("feedback", "feedback_history", "model_state", "tombstone")
        return [tuple(row) for name in tables for row in connection.exec_driver_sql(f"SELECT * FROM {name}")]


def held_by(path: Path) -> bytes:
    log = path.with_name(path.name + "-wal")
    return path.read_bytes() + (log.read_bytes() if log.exists() else b"")
