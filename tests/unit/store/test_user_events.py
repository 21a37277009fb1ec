"""The state of users: what came last counts, it is bounded, it is forgotten without a trace, it waits for nobody."""

import sqlite3
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perennial.continual.errors import DependencyUnreachable
from perennial.continual.learning.ranking import Event, ItemRule
from perennial.ops.store.user_events import UserEvents

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def event(item: str, minute: int = 0, *, user: str = "u7", liked: float = 1.0) -> Event:
    return Event(user=user, item=item, at=NOON + timedelta(minutes=minute), liked=liked)


def test_a_user_is_what_they_did_last_with_each_item(tmp_path: Path) -> None:
    with UserEvents(tmp_path / "users" / "shop.db") as kept:
        assert kept.add([event("tea", 1), event("cup", 2), event("pot", 3, user="u8")]) == 3
        assert kept.add([event("tea", 1), event("cup", 0, liked=0.0)]) == 0
        assert kept.add([event("tea", 5, liked=0.5)]) == 1
        assert kept.profile("u7").events == (event("cup", 2), event("tea", 5, liked=0.5))
        assert kept.profile("u9").events == ()
        assert kept.users() == ("u7", "u8")


def test_at_a_time_nothing_is_known_of_what_came_then_or_later(tmp_path: Path) -> None:
    with UserEvents(tmp_path / "shop.db") as kept:
        kept.add([event("tea", 1), event("cup", 2)])
        assert kept.profile("u7", before=NOON + timedelta(minutes=2)).events == (event("tea", 1),)


def test_words_and_blocked_items_are_kept_beside_the_events(tmp_path: Path) -> None:
    with UserEvents(tmp_path / "shop.db") as kept:
        kept.block("u7", "cup")
        kept.block("u7", "pot")
        kept.block("u7", "pot", blocked=False)
        kept.want("u7", "green tea", 2.0)
        kept.want("u7", "green", 0.0)
        found = kept.profile("u7")
    assert (found.blocked, dict(found.wanted)) == (frozenset({"cup"}), {"tea": 2.0})


def test_rules_of_the_shop_come_with_every_profile(tmp_path: Path) -> None:
    with UserEvents(tmp_path / "shop.db") as kept:
        kept.add([event("tea")])
        assert (kept.rules(), kept.profile("u7").rules) == ((), ()), "a file of an earlier release has no such table"
        first = ItemRule.of("young", "Green tea", segment="children")
        assert kept.state_rule(first) is None
        kept.state_rule(ItemRule.of("none", "pot"))
        assert kept.state_rule(ItemRule.of("young", "green", segment="children")) == first
        assert kept.rules() == kept.profile("u8").rules
        assert [(rule.name, rule.words) for rule in kept.rules()] == [("none", ("pot",)), ("young", ("green",))]
        assert kept.drop_rule("none") == ItemRule.of("none", "pot")
        assert kept.drop_rule("none") is None
        assert [rule.name for rule in kept.rules()] == ["young"]


def test_old_events_of_a_user_give_way_and_those_of_others_stay(tmp_path: Path) -> None:
    with UserEvents(tmp_path / "shop.db", most_events=3) as kept:
        kept.add([event("pot", 0, user="u8")])
        kept.add([event(f"i{minute}", minute) for minute in range(10)])
        kept.add([event("late", -5)])
        assert [one.item for one in kept.profile("u7").events] == ["i7", "i8", "i9"]
        assert len(kept.profile("u8").events) == 1


def test_an_erased_user_leaves_no_byte(tmp_path: Path) -> None:
    with UserEvents(tmp_path / "shop.db") as kept, UserEvents(tmp_path / "shop.db") as reader:
        kept.add([event(f"i{n}", user="person-1") for n in range(50)] + [event("tea")])
        kept.block("person-1", "cup")
        kept.want("person-1", "green", 1.0)
        assert len(reader.profile("person-1").events) == 50
        assert kept.erase("person-1") == 50
        assert reader.profile("person-1").events == ()
        assert kept.users() == ("u7",)
        assert [path.name for path in tmp_path.iterdir() if b"person-1" in path.read_bytes()] == []


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    with UserEvents(tmp_path / "shop.db") as kept:
        kept.add([event("tea")])
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    with UserEvents(tmp_path / "shop.db") as kept, UserEvents(tmp_path / "shop.db", wait_s=0.01) as reader:
        kept.add([event("tea")])
        writer = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM event")
        assert len(reader.profile("u7").events) == 1
        writer.execute("COMMIT")
        writer.close()
        assert reader.profile("u7").events == ()


def test_what_cannot_be_read_is_said_and_read_again_once_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with UserEvents(path) as reader, UserEvents(path) as kept:
        with pytest.raises(DependencyUnreachable, match=r"shop\.db"):
            reader.profile("u7")
        kept.add([event("tea")])
        assert len(reader.profile("u7").events) == 1
        kept.close()
        for left in tmp_path.iterdir():
            left.unlink()
        with pytest.raises(DependencyUnreachable):
            reader.profile("u7")
        kept.add([event("cup")])
        assert [one.item for one in reader.profile("u7").events] == ["cup"]
    (tmp_path / "broken.db").write_bytes(b"no database" * 500)
    with UserEvents(tmp_path / "broken.db") as broken, pytest.raises(DependencyUnreachable, match=r"broken\.db"):
        broken.profile("u7")


def test_threads_share_one_store(tmp_path: Path) -> None:
    with UserEvents(tmp_path / "shop.db") as kept:
        work = [
            threading.Thread(target=lambda n=n: kept.add([event(f"i{n}-{k}", k) for k in range(20)])) for n in range(4)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert len(kept.profile("u7").events) == 80


def test_a_withdrawn_item_is_hidden_from_everybody_and_is_no_part_of_what_is_known_of_them(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with UserEvents(path) as kept:
        kept.add([event("tea")])
        kept.withdraw(["cup", "pot"])
        kept.withdraw(["pot"], withdrawn=False)
        kept.withdraw(["cup"])
        assert kept.withdrawn() == {"cup"}
        found, stranger = kept.profile("u7"), kept.profile("u8")
    assert (found.hidden, stranger.hidden) == ({"tea", "cup"}, {"cup"})
    assert "cup" not in str(found.document())
    with UserEvents(tmp_path / "other.db") as kept:
        kept.add([event("tea")])
        assert kept.profile("u7").hidden == {"tea"}
        assert kept.withdrawn() == frozenset()
        kept.withdraw(["pot"])
        assert kept.profile("u7").hidden == {"tea", "pot"}
