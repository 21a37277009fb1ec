"""A folder with one table of dated rows is replayed in the order of its dates."""

from pathlib import Path

import pytest

from perennial.continual.errors import DataError
from perennial.ops.demo.data import dated_data, dated_file
from perennial.ops.demo.options import DemoOptions, write_settings
from perennial.ops.demo.world import Source
from perennial.ops.settings import load_settings


def written(folder: Path, rows: list[tuple[str, str, str]], header: str = "date,text,label,more") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "news.csv"
    path.write_text("\n".join([header, *(f"{day},{text},{label},1" for day, text, label in rows)]) + "\n", "utf-8")
    return path


def test_rows_come_in_the_order_of_their_dates(tmp_path: Path) -> None:
    days = [f"20{year:02}-03-{day:02}" for year in (9, 3, 7) for day in range(1, 11)]
    path = written(tmp_path / "gold", [(day, f"text {day}", "up" if day < "2005" else "down") for day in days])
    assert dated_file(path.parent) == path
    data = dated_data(path, first=10)
    assert data.name == "news, 2003-03-01 to 2009-03-10"
    assert (data.first_intents, len(data.seed), data.waves, data.test) == (("up",), 10, (), ())
    source = Source(data, seed=5)
    assert [source.draw()[0] for _ in range(20)] == [f"text {day}" for day in sorted(days)[10:]]
    assert source.left() == 0


def test_other_folders_are_not_taken_for_one(tmp_path: Path) -> None:
    written(tmp_path / "one", [], header="text,category,x,y")
    assert dated_file(tmp_path / "one") is None
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "train.csv").write_text("date,text,label\n")
    (tmp_path / "two" / "test.csv").write_text("date,text,label\n")
    assert dated_file(tmp_path / "two") is None
    assert dated_file(tmp_path / "none") is None


def test_a_row_without_a_date_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "gold", [("2001-01-01", "a", "up"), ("1/2/2001", "b", "up")])
    with pytest.raises(DataError, match=r"line 3: the date '1/2/2001' is none; write it as 2019-02-28"):
        dated_data(path)
    with pytest.raises(DataError, match="2 rows; 1 for the first version"):
        dated_data(written(tmp_path / "gold", [("2001-01-01", "a", "up")] * 2), first=1)


def test_labels_alone_begin_a_cycle_where_the_options_say_so(tmp_path: Path) -> None:
    for told, kinds in ((None, ["drift", "schedule"]), (500, ["drift", "schedule", "feedback_count"])):
        settings = load_settings(write_settings(DemoOptions(out=tmp_path, retrain_on_labels=told)))
        assert [policy["kind"] for policy in settings.models["intent"].policy["policies"]] == kinds
