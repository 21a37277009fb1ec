"""The demonstrations of recipes: a world that changes, the figures of it, and the settings that it runs under."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perennial.continual.errors import ConfigurationError, DataError
from perennial.exporters.ranking.asked import Asked
from perennial.ops.demo.paced import Asking, Sent
from perennial.ops.demo.quality import Quality, quality_summary, write_quality_page
from perennial.ops.demo.readers import Library, Readers
from perennial.ops.demo.recipe_settings import recipe_settings
from perennial.ops.demo.recipes import DEMOS, RecipeDemoOptions, recipe_demo
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
    history = readers.history(4, NOON)
    assert len(history) == 20
    assert len({(event.user, event.item) for event in history}) == 20
    assert max(event.at for event in history) <= NOON - timedelta(hours=1)
    first = [readers.draw() for _ in range(5)]
    assert [asking.key for asking in first] == [f"reader-000{number}" for number in range(5)]
    liked = {(event.user, event.item) for event in history}
    assert all((asking.key, book) not in liked for asking in first for book in asking.truth)
    readers.change()
    readers.change()
    later = [readers.draw() for _ in range(60)]
    assert {asking.wave for asking in later} == {2}
    assert new & {book for asking in later for book in asking.truth}
    assert len(readers.draw().truth) == 3, "a reader who has read nearly all begins again"


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
