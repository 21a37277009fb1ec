"""Long work says where it is also where there is no terminal."""

from pathlib import Path

import pytest

from perennial.continual.preparation import read_labelled_file
from perennial.ops.cli import progress
from perennial.ops.cli.file_options import file_reading


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that progress goes by; each look at it costs two seconds."""
    now = [0.0]

    def look() -> float:
        now[0] += 2.0
        return now[0]

    monkeypatch.setattr(progress.time, "monotonic", look)
    return now


def test_a_long_file_tells_how_many_rows_are_through(
    tmp_path: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"row {n},a\n" for n in range(9_500)))
    reading = file_reading(None, None, None, None)
    assert len(read_labelled_file(path, reading=reading)) == 9_500
    assert capsys.readouterr().err.splitlines() == [
        "read the rows: 3,000 of 9,500, about 13 s left",
        "read the rows: 6,000 of 9,500, about 7 s left",
        "read the rows: 9,000 of 9,500, about 1 s left",
    ]


def test_a_short_file_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"row {n},a\n" for n in range(2_500)))
    read_labelled_file(path, reading=file_reading(None, None, None, None))
    assert capsys.readouterr().err == ""
