"""Feeds: documents of strangers, addresses that lead elsewhere, files that grow, and a model that is not there."""

import http.server
import json
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import DataError, DependencyUnreachable, PublishFailed
from perennial.continual.preparation import admit_key
from perennial.continual.tasks.opinion import Headline
from perennial.ops.feeds.documents import read_document
from perennial.ops.feeds.feed_item import FeedItem
from perennial.ops.feeds.feed_state import FeedState
from perennial.ops.feeds.fetching import fetch
from perennial.ops.feeds.growing_file import read_new_rows
from perennial.ops.feeds.pump import FeedPump
from perennial.ops.settings import FeedSettings

NOW = datetime(2026, 1, 30, 12, tzinfo=UTC)
RSS = b"""<?xml version="1.0"?><rss version="2.0"><channel><title>Wire</title>
<item><title>Newer &lt;b&gt;gold&lt;/b&gt; &amp;amp; silver</title><guid>2</guid>
<pubDate>Fri, 30 Jan 2026 11:00:00 GMT</pubDate></item>
<item><title>Older</title><link>https://example.org/1</link><pubDate>some day</pubDate></item>
<item><title> </title></item></channel></rss>"""
ATOM = b"""<feed xmlns="http://www.w3.org/2005/Atom"><title>Atoms</title><entry><title type="html">One</title>
<id>tag:1</id><updated>2026-01-30T13:00:00+02:00</updated><link href="https://example.org/a"/></entry></feed>"""
BOMB = (
    b'<!DOCTYPE a [<!ENTITY b "xxxxxxxx"><!ENTITY c "&b;&b;&b;&b;">]><rss><channel><title>&c;</title></channel></rss>'
)


def test_rss_and_atom_are_read_oldest_first_and_without_markup() -> None:
    rss, atom = read_document(RSS, now=NOW), read_document(ATOM, now=NOW)
    assert [(item.text, item.identity, item.published_at) for item in rss.items] == [
        ("Older", "https://example.org/1", ""),
        ("Newer gold & silver", "2", "2026-01-30T11:00:00+00:00"),
    ]
    assert (rss.refused, rss.title) == (1, "Wire")
    assert [(item.text, item.published_at) for item in atom.items] == [("One", "2026-01-30T11:00:00+00:00")]


@pytest.mark.parametrize(
    "body",
    [b"", b"<rss", b"<html/>", BOMB, b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><rss/>', b"\xff\xfe\x00", b"not xml"],
)
def test_a_document_that_is_none_or_does_more_than_say_is_refused(body: bytes) -> None:
    with pytest.raises(DataError, match="the feed"):
        read_document(body, now=NOW)


@pytest.mark.parametrize(
    "name",
    [
        "x" * 300,
        "新聞" * 90,
        "The\x00 wire\nof\ttoday",
        "\ud800wire",
        "\u202eeriw",
        "\u115fwire\u200b",
        "wi\u00a0re",
        "\ufeff",
    ],
)
def test_a_publisher_may_call_itself_anything_and_its_items_are_asked_all_the_same(name: str) -> None:
    for item, source in ((FeedItem(text="gold up", source=name), ""), (FeedItem(text="gold up"), name)):
        asked = item.headline(source=source).source
        assert (admit_key(asked) or "") == asked
        assert item.headline(source="wire").text == "gold up"
    assert FeedItem(text="gold up").headline(source="The\nwire").source == "The wire"


class Served(http.server.BaseHTTPRequestHandler):
    """What the address answers, by its path."""

    def do_GET(self) -> None:
        path = self.path
        if path == "/again" and self.headers.get("If-None-Match") == '"one"':
            self._send(304, b"")
        elif path == "/away":
            self._send(302, b"", location="/feed")
        elif path == "/round":
            self._send(302, b"", location="/round")
        elif path == "/inside":
            self._send(302, b"", location="file:///etc/passwd")
        elif path == "/packed":
            self._send(200, RSS, encoding="gzip")
        elif path == "/gone":
            self._send(404, b"")
        else:
            self._send(200, RSS, etag='"one"')

    def _send(self, status: int, body: bytes, *, location: str = "", encoding: str = "", etag: str = "") -> None:
        self.send_response(status)
        for name, value in (("Location", location), ("Content-Encoding", encoding), ("ETag", etag)):
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def got(url: str, mark: str = "", *, private: bool = True, most_bytes: int = 10_000) -> Any:
    return fetch(url, mark, timeout_s=20, most_bytes=most_bytes, private=private)


def test_a_document_is_fetched_once_while_it_is_the_same(address: str) -> None:
    first = got(f"{address}/again")
    assert (first.body, got(f"{address}/again", first.mark).body) == (RSS, None)
    assert got(f"{address}/away").body == RSS


@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ("/gone", DependencyUnreachable, "answered 404"),
        ("/round", DataError, "redirects more than 3 times"),
        ("/inside", DataError, "no plain http or https address"),
        ("/packed", DataError, "answers packed"),
    ],
)
def test_an_answer_that_is_no_document_is_named(address: str, path: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        got(address + path)


def test_a_document_is_read_no_further_than_its_size_may_be(address: str) -> None:
    with pytest.raises(DataError, match="longer than 50 bytes"):
        got(f"{address}/feed", most_bytes=50)


@pytest.mark.parametrize(
    "url",
    [
        "{}/feed",
        "http://127.0.0.1/feed",
        "http://[::1]/f",
        "http://10.0.0.1/f",
        "http://169.254.169.254/f",
        "http://0/f",
    ],
)
def test_a_private_address_is_refused_unless_it_is_allowed(address: str, url: str) -> None:
    with pytest.raises(DataError, match="in a private network"):
        got(url.format(address), private=False)


@pytest.mark.parametrize("url", ["ftp://example.org/x", "file:///etc/passwd", "http://me:secret@example.org/", "feed"])
def test_an_address_of_another_kind_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(DataError, match="no plain http or https address") as refused:
        got(url)
    assert "secret" not in str(refused.value)


def rows(path: Path, mark: str = "", most: int = 100) -> Any:
    return read_new_rows(path, mark, now=NOW, most_bytes=1_000_000, most_items=most)


def test_a_growing_file_is_read_on_from_where_it_was_left(tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    path.write_text(
        '{"text": "one", "symbols": ["A"]}\n{"no": 1}\nnot json\n{"text": "two", "published_at": "2026-01-30"'
    )
    first = rows(path)
    assert ([item.text for item in first.items], first.items[0].symbols, first.refused) == (["one"], ("A",), 2)
    with path.open("a") as file:
        file.write("}\n")
    second = rows(path, first.mark)
    assert [(item.text, item.published_at) for item in second.items] == [("two", "2026-01-30T00:00:00+00:00")]
    path.write_text('{"text": "anew"}\n')
    assert [item.text for item in rows(path, second.mark).items] == ["anew"]


def test_a_csv_file_names_its_columns_once(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    path.write_text("source,text\nwire,one\n")
    first = rows(path)
    with path.open("a") as file:
        file.write('wire,"two, three"\nshort\n')
    second = rows(path, first.mark)
    assert [(item.source, item.text) for item in (*first.items, *second.items)] == [
        ("wire", "one"),
        ("wire", "two, three"),
    ]
    assert second.refused == 1
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="needs one called text"):
        rows(path)
    with pytest.raises(DependencyUnreachable, match="cannot be read"):
        rows(tmp_path / "none.csv")


class Model:
    """A model that is there, or not, or refuses one text."""

    def __init__(self) -> None:
        self.there, self.asked = True, list[str]()

    def __call__(self, headlines: Sequence[Headline], keys: Sequence[str]) -> Sequence[Any]:
        if not self.there:
            raise DependencyUnreachable("no server")
        if any(headline.text == "bad" for headline in headlines):
            raise PublishFailed("the model refuses a text")
        assert keys == ["feed:wire"] * len(headlines)
        self.asked += [headline.text for headline in headlines]
        return headlines


def pump(tmp_path: Path, model: Model, at_once: int = 2) -> FeedPump:
    settings = FeedSettings(file=str(tmp_path / "news.jsonl"), items_at_once=at_once)
    return FeedPump("wire", settings, FeedState(tmp_path / "feeds.db"), model)


def write(tmp_path: Path, *texts: str) -> None:
    with (tmp_path / "news.jsonl").open("a") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)


def test_what_waits_is_asked_before_anything_new_is_taken_in_also_after_a_restart(tmp_path: Path) -> None:
    model = Model()
    write(tmp_path, "a", "b", "c", "b", "d")
    model.there = False
    for _ in range(3):
        with pytest.raises(DependencyUnreachable):
            pump(tmp_path, model).run()
    assert len(FeedState(tmp_path / "feeds.db").waiting("wire", most=100)) == 2, "no more than one lot waits"
    model.there = True
    assert pump(tmp_path, model).run() == "4 asked, 0 refused"
    assert model.asked == ["a", "b", "c", "d"]
    assert pump(tmp_path, model).run() == ""
    write(tmp_path, "a", "e")
    assert pump(tmp_path, model).run() == "1 asked, 0 refused"
    assert model.asked[-1] == "e"


def test_an_item_that_the_model_refuses_keeps_no_other_back(tmp_path: Path) -> None:
    model = Model()
    write(tmp_path, "a", "bad", "b")
    assert pump(tmp_path, model, at_once=3).run() == "3 asked, 1 refused"
    assert model.asked == ["a", "b"]
