"""A stream of a real Redis as a feed: from where it was left, no more than asked, and through its restarts."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from perennial.continual.errors import DataError, DependencyUnreachable
from perennial.continual.tasks.opinion import Headline
from perennial.ops.feeds.feed_item import FeedPart
from perennial.ops.feeds.feed_state import FeedState
from perennial.ops.feeds.pump import FeedPump
from perennial.ops.feeds.redis_stream import read_stream
from perennial.ops.serving.processes import free_port
from perennial.ops.settings import FeedSettings
from tests.component.redis_server import redis_server

pytestmark = pytest.mark.component
NOW = datetime(2026, 1, 30, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with redis_server(tmp_path_factory.mktemp("redis")) as found:
        yield found


def publish(port: int, stream: str, *rows: dict[str, str]) -> None:
    with redis.Redis(port=port) as client:
        for row in rows:
            client.xadd(stream, row)  # type: ignore[arg-type]


def read(port: int, stream: str, mark: str = "", most: int = 100) -> FeedPart:
    address = f"redis://127.0.0.1:{port}/0"
    return read_stream(address, stream, mark, now=NOW, timeout_s=5.0, most_items=most)


def test_entries_come_in_order_from_where_the_stream_was_left(port: int) -> None:
    assert read(port, "wire") == FeedPart(items=(), mark="")
    publish(
        port,
        "wire",
        {"text": "gold up", "source": "A", "published_at": "2026-01-30T11:00:00Z", "symbols": "GLD SLV", "id": "7"},
        {"headline": "no text"},
        {"text": " "},
        {"text": "gold down", "published_at": "some day"},
        {"text": "silver up", "symbols": ""},
        {"text": "copper up"},
    )
    first = read(port, "wire", most=5)
    assert [(item.text, item.source, item.symbols) for item in first.items] == [
        ("gold up", "A", ("GLD", "SLV")),
        ("silver up", "", ()),
    ]
    assert (first.items[0].identity, first.items[0].published_at) == ("7", "2026-01-30T11:00:00+00:00")
    assert first.refused == 3
    rest = read(port, "wire", first.mark)
    assert [item.text for item in rest.items] == ["copper up"]
    assert read(port, "wire", rest.mark) == FeedPart(items=(), mark=rest.mark)


def test_what_is_no_stream_and_who_does_not_answer_are_told_apart(port: int) -> None:
    with redis.Redis(port=port) as client:
        client.set("word", "x")
    with pytest.raises(DataError, match=r"'word' cannot be read .*see that this key holds a stream"):
        read(port, "word")
    with pytest.raises(DependencyUnreachable, match="see that Redis runs"):
        read(free_port(), "wire")


class Model:
    """Who is asked; it may be away."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = False

    def ask(self, headlines: Sequence[Headline], keys: Sequence[str]) -> Sequence[Any]:
        if self.away:
            raise DependencyUnreachable("nobody is there")
        assert set(keys) == {"feed:wire"}
        self.asked += [headline.text for headline in headlines]
        return []


def test_a_pump_takes_no_more_while_the_model_is_away_and_goes_on_after_restarts_of_all(tmp_path: Path) -> None:
    state, model, port = tmp_path / "feeds.db", Model(), free_port()
    settings = FeedSettings(url=f"redis://127.0.0.1:{port}/0", stream="wire", secret="open", items_at_once=4)  # type: ignore[arg-type]

    def pump() -> FeedPump:
        return FeedPump("wire", settings, FeedState(state), model.ask)

    with redis_server(tmp_path, "--requirepass", "open", port=port), redis.Redis(port=port, password="open") as client:
        for number in range(20):
            client.xadd("wire", {"text": f"headline {number}"})
        model.away = True
        for _ in range(3):
            with pytest.raises(DependencyUnreachable, match="nobody is there"):
                pump().run()
        waiting = FeedState(state).waiting("wire", most=100)
        assert [item.text for _, item in waiting] == [f"headline {number}" for number in range(4)]
        model.away = False
        assert pump().run() == "20 asked, 0 refused"
    with pytest.raises(DependencyUnreachable, match="see that Redis runs"):
        pump().run()
    with redis_server(tmp_path, "--requirepass", "open", port=port), redis.Redis(port=port, password="open") as client:
        assert pump().run() == ""
        client.xadd("wire", {"text": "headline 20"})
        client.xadd("wire", {"text": "headline 3"})  # once more
        assert pump().run() == "1 asked, 0 refused"
    assert model.asked == [f"headline {number}" for number in range(21)]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"url": "redis://h:1/0"}, "the key of a stream"),
        ({"url": "https://h/x", "stream": "wire"}, "redis://host:port/database"),
        ({"file": "x.csv", "stream": "wire"}, "redis://host:port/database"),
        ({"url": "redis://:open@h:1/0", "stream": "wire"}, "give the password as its secret"),
        ({"url": "redis://h:1/0", "stream": "wire", "file": "x.csv"}, "one of them"),
    ],
)
def test_a_feed_is_one_thing_and_its_password_a_secret(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        FeedSettings(**fields)
    kept = FeedSettings(url="redis://h:1/0", stream="wire", secret="open").model_dump(mode="json")  # type: ignore[arg-type]
    assert "open" not in str(kept)
