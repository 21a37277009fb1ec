"""Files of events and of items, as people have them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from perennial.continual.errors import DataError, RowsRefused
from perennial.continual.learning.ranking import Event, Item, read_items, write_items
from perennial.continual.learning.ranking.files import read_event_file, read_item_file
from perennial.continual.preparation import FileReading

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
AT = datetime(2009, 12, 14, 2, 52, 24, tzinfo=UTC)


def written(folder: Path, content: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "content",
    [
        "user,item,at\nu1,31,2009-12-14T02:52:24Z\n",
        "userId,movieId,rating,timestamp\nu1,31,4.5,1260759144\n",
        "user;item;signal;ts\n u1 ;31;click;1260759144000\n",
        "user\titem\tdwell\tat\nu1\t31\t90\t2009-12-14 02:52:24\n",
        '{"user": "u1", "item": "31", "at": "2009-12-14T03:52:24+01:00", "signal": "rating", "value": "4"}\n',
    ],
)
def test_events_are_read_by_the_names_that_files_use(tmp_path: Path, content: str) -> None:
    assert read_event_file(written(tmp_path, content), now=NOW).events == (
        Event(user="u1", item="31", at=AT, liked=1.0),
    )


def test_a_low_rating_and_a_skip_are_seen_and_not_liked(tmp_path: Path) -> None:
    content = "user,item,signal,value,at,segment\nu1,a,rating,2,1260759144,new\nu2,a,skip,,1260759144,\n"
    found = read_event_file(written(tmp_path, content), now=NOW)
    assert [event.liked for event in found.events] == [0.0, 0.0]
    assert found.segments == {"u1": "new"}


def test_a_column_of_another_name_is_stated(tmp_path: Path) -> None:
    path = written(tmp_path, "who,what,at\nu1,31,1260759144\n")
    with pytest.raises(DataError, match=r"needs the columns 'user' and 'item' and 'at'; rename one, or say which"):
        read_event_file(path)
    stated = FileReading(columns={"user": "who", "item": "what"})
    assert read_event_file(path, reading=stated, now=NOW).events[0].user == "u1"


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        (",31,click,,1260759144", "user is empty"),
        ("u1,,click,,1260759144", "item is empty"),
        ("u1,31,click,,", "at is empty"),
        ("u1,31,click,,yesterday", "at is 'yesterday'; write ISO 8601"),
        ("u1,31,click,,4102444800", "in the future"),
        ("u1,31,bought,,1260759144", "signal is 'bought'; use one of click, rating, skip, dwell"),
        ("u1,31,rating,,1260759144", "a rating has the value None"),
        ("u1,31,rating,much,1260759144", "rating is 'much'; give a number"),
        ("u1,31,rating,7,1260759144", "it must lie in 0 to 5"),
    ],
)
def test_a_wrong_event_is_named_by_its_line(tmp_path: Path, row: str, cause: str) -> None:
    path = written(tmp_path, f"user,item,signal,value,at\nu1,30,click,,1260759144\n{row}\n")
    with pytest.raises(RowsRefused, match=f"line 3: .*{cause}"):
        read_event_file(path, now=NOW)


def test_items_are_read_with_their_texts_and_kept_as_they_are(tmp_path: Path) -> None:
    content = "movieId,title,genres,offered_until\n1,Toy Story (1995),Comedy|Fantasy,2100-01-01T00:00:00Z\n2,,,\n"
    items = read_item_file(written(tmp_path, content))
    assert items == (
        Item(name="1", text="Toy Story (1995) Comedy|Fantasy", offered_until=datetime(2100, 1, 1, tzinfo=UTC)),
        Item(name="2"),
    )
    write_items(tmp_path / "kept.jsonl", items)
    assert read_items(tmp_path / "kept.jsonl") == items


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("item,text\na,x\nb,y\na,z\n", "3 rows of 2 items; 'a' comes twice"),
        ("item,text\n,x\n", "item is empty"),
        ("item,offered_from\na,soon\n", "offered_from is 'soon'"),
        ("text,price\na,3\n", r"needs the columns 'item'; rename one"),
    ],
)
def test_a_catalogue_that_cannot_be_used_says_why(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_item_file(written(tmp_path, content))
