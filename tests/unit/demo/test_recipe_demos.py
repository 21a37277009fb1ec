"""The demonstrations of recipes: a world that changes, the figures of it, and the settings that it runs under."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perennial.client.rankings import RankedList
from perennial.continual.errors import ConfigurationError, DataError
from perennial.exporters.ranking.asked import Asked
from perennial.ops.demo import users_of_file
from perennial.ops.demo.paced import Asking, Sent
from perennial.ops.demo.panels import panel_html
from perennial.ops.demo.quality import Quality, quality_summary, write_quality_page
from perennial.ops.demo.readers import Library, Readers
from perennial.ops.demo.readership import Wants
from perennial.ops.demo.recipe_settings import recipe_settings
from perennial.ops.demo.recipes import DEMOS, RecipeDemoOptions, recipe_demo
from perennial.ops.demo.recommendation_panels import recommendation_panels
from perennial.ops.demo.users_of_file import UsersOfFile
from perennial.ops.recipes import RECIPES, recipe_named

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def sent(number: int, *, wave: int = 1, key: str = "", error: str = "") -> Sent:
    asking = Asking(asked=Asked(user="u"), truth={}, wave=wave, key=key or f"u{number % 7}")
    at = NOON + timedelta(seconds=number)
    return Sent(number=number, asking=asking, sent_at=at, latency_ms=20.0, version=0 if error else 1, error=error)


def test_a_demonstration_belongs_to_a_recipe_and_others_are_refused() -> None:
    assert set(DEMOS) <= set(RECIPES)
    assert all(hasattr(recipe_demo(name), "run") for name in DEMOS)
    with pytest.raises(ConfigurationError, match="recipe 'cooking' has no demonstration; use one of"):
        recipe_demo("cooking")
    with pytest.raises(DataError, match="rate 0 must lie in"):
        RecipeDemoOptions(out=Path("x"), rate=0)


@pytest.mark.parametrize("name", RECIPES)
def test_settings_are_the_recipes_own_with_haste_and_what_the_demonstration_changes(name: str, tmp_path: Path) -> None:
    recipe = recipe_named(name)
    model = recipe.models[0].name
    policy = {"kind": "feedback_count", "at_least": 7}
    settings = recipe_settings(tmp_path, recipe, seed=3, changed={model: {"policy": policy}})
    assert (settings.seed, settings.models[model].policy) == (3, policy)
    assert settings.models[model].task == recipe.models[0].task
    assert settings.models[model].cycle.probation_s == 5.0
    ports = settings.triton
    assert len({ports.grpc_port, ports.http_port, ports.metrics_port, settings.api.port}) == 4
    if name == "recommendation":
        assert settings.models[model].learning.params["exploration"]["share"] > 0


def test_readers_follow_threads_that_change_and_new_books_come_last() -> None:
    library = Library.generated(1)
    old, new = {book.name for book in library.first}, {book.name for book in library.new}
    assert [set().union(*map(set, threads)) for threads in library.threads] == [old, old, old | new]
    assert library.threads[0] != library.threads[1]
    readers = Readers(library=library, count=5, seed=2)
    history = readers.history(NOON)
    assert len(history) == 30
    assert len({(event.user, event.item) for event in history}) == 30
    assert max(event.at for event in history) <= NOON - timedelta(hours=1)
    first = [readers.draw() for _ in range(5)]
    assert [asking.key for asking in first] == [f"reader-000{number}" for number in range(5)]
    liked = {(event.user, event.item) for event in history}
    assert all((asking.key, book) not in liked for asking in first for book in asking.truth.items)
    assert [row["item"] for row in first[0].truth.signals] == list(first[0].truth.items)
    assert readers.change()[1] == ()
    what, came = readers.change()
    assert (what.split()[0], {book.name for book in came}) == (str(len(new)), new)
    later = [readers.draw() for _ in range(60)]
    assert {asking.wave for asking in later} == {2}
    assert new & {book for asking in later for book in asking.truth.items}
    assert len(readers.draw().truth.items) == 3, "a reader who has read nearly all begins again"


def shop(folder: Path, users: int = 40, each: int = 60) -> Path:
    """A folder in which users turn to later items as time goes on; every third event is no liking."""
    folder.mkdir(exist_ok=True)
    rows = ["user,item,rating,ts"]
    for step in range(each):
        for user in range(users):
            item = 3 * step // 2 + (7 * user + step) % 20
            rows.append(f"u{user},film {item},{2 if (user + step) % 3 == 0 else 5},{1_000_000_000 + step}")
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n")
    (folder / "movies.csv").write_text("item,title\n" + "".join(f"film {n},title {n}\n" for n in range(200)))
    return folder


def test_users_of_a_folder_do_what_they_did_and_items_come_when_they_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = UsersOfFile.read(shop(tmp_path / "shop"), seed=0)
    begun, events = users.history(NOON), users.events
    assert 0 <= len(begun) - int(0.6 * len(events)) < 10
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert {item.name for item in users.first} == {event.item for event in begun}
    moment = [int(event.user[1:]) for event in events if event.at == events[0].at]
    assert moment != sorted(moment), "of one moment nobody knows who came first"
    askings = [users.draw() for _ in range(300)]
    place = len(begun)
    for asking in askings:
        future = [event.item for event in events[place:] if event.user == asking.key and event.liked]
        assert list(asking.truth.items) == list(dict.fromkeys(future[:3]))
        told = events[place : place + len(asking.truth.signals)]
        assert [(row["user"], row["item"]) for row in asking.truth.signals] == [(e.user, e.item) for e in told]
        assert [row["signal"] for row in asking.truth.signals] == ["click" if e.liked else "skip" for e in told]
        place += len(told)
    _, first = users.change()
    what, rest = users.change()
    assert f"{len(rest)} new items come" in what
    assert {item.name for item in (*users.first, *first, *rest)} == {event.item for event in events}
    assert users.draw().wave == 2
    monkeypatch.setattr(users_of_file, "_LAST", 10)
    left = users.pace.last
    users.draw()
    assert left - users.pace.last == 1, "all that is left is asked"


def test_a_folder_that_tells_too_little_of_its_users_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="668 events give 179 questions; a demonstration needs 500"):
        UsersOfFile.read(shop(tmp_path / "small", users=12), seed=0)
    with pytest.raises(DataError, match="0 events give 0 questions; a demonstration needs 500"):
        UsersOfFile.read(shop(tmp_path / "tiny", users=2, each=3), seed=0)
    with pytest.raises(DataError, match=r"is no folder; give one with events\.csv"):
        UsersOfFile.read(tmp_path / "small" / "ratings.csv", seed=0)


def test_panels_of_lists_tell_of_what_was_wanted_shown_and_new() -> None:
    everything = []
    for number in range(60):
        each = sent(number, error="gone" if number == 30 else "")
        wants = Wants(items={"a": 1.0, "n": 1.0}, signals=())
        answer = RankedList(
            items=("a", "b", "n"),
            scores=(3, 2, 1),
            reasons=("r", "because of a", "because of z"),
            version=2,
            prediction_id="p",
        )
        everything.append(replace(each, asking=replace(each.asking, truth=wants), answer=answer))
    quality = Quality(
        measure="NDCG@10", sent=tuple(everything), scores=(0.5,) * 60, frozen=(0.1,) * 60, waves=(20,), swaps=()
    )
    panels = recommendation_panels(quality, [("b", "c")] * 60, frozenset({"n"}), {"a": "an <apple>"})
    assert [panel.heading for panel in panels] == [
        "Lists that held what was wanted", "Different items shown", "New items", "The last lists",
    ]  # fmt: skip
    hits, _, new, lists = panels
    assert [round(line.y[-1], 3) for line in hits.figure.data] == [0.0, round(55 / 56, 3)]
    assert [round(line.y[-1], 3) for line in new.figure.data] == [0.5, 0.0, round(55 / 168, 3)]
    assert lists.rows[0][2].startswith("an <apple>* (r) · b (because of an <apple>) · n*+ (because of z)")
    assert "an &lt;apple&gt;" in panel_html(lists, first=False)
    assert len(recommendation_panels(quality, [()] * 60, frozenset(), {})) == 3, "without new items no panel of them"


def test_figures_set_the_loop_beside_its_frozen_twin_once_the_last_change_was_answered(tmp_path: Path) -> None:
    everything = tuple(sent(number, wave=int(number >= 20)) for number in range(100))
    quality = Quality(
        measure="NDCG@10",
        sent=everything,
        scores=tuple(0.9 if number < 20 or number >= 50 else 0.1 for number in range(100)),
        frozen=tuple(0.9 if number < 20 else 0.1 for number in range(100)),
        waves=(20,),
        swaps=(NOON + timedelta(seconds=50),),
    )
    summary = quality_summary(quality, after=50)
    assert (summary["requests"], summary["failed_requests"], summary["swaps"]) == (100, 0, 1)
    assert summary["quality_before"] == pytest.approx(0.9)
    assert summary["quality_after"] == pytest.approx(0.9)
    assert summary["quality_after_frozen"] == pytest.approx(0.1)
    assert summary["quality_ahead_interval"] == pytest.approx([0.8, 0.8])
    write_quality_page(tmp_path, quality, summary, "A <title>")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "A &lt;title&gt;" in page
    assert "quality ahead interval" in page


def test_a_failed_question_is_counted_and_named() -> None:
    quality = Quality(
        measure="NDCG@10",
        sent=(sent(0), sent(1, error="gone")),
        scores=(1.0, 0.0),
        frozen=(1.0, 1.0),
        waves=(),
        swaps=(),
    )
    summary = quality_summary(quality, after=2)
    assert (summary["failed_requests"], summary["failures"]) == (1, {"gone": 1})
    assert (summary["quality_after"], summary["quality_ahead"]) == (None, None)
