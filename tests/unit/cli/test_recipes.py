"""Recipes: one folder and one name, and the models stand in the settings with what was measured for them."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, DataError, PerennialError
from perennial.ops.cli.beginning import beginning_of
from perennial.ops.cli.main import app
from perennial.ops.recipes import RECIPES, FileRole, recipe_named
from perennial.ops.settings import ModelSettings, load_settings

ROOT = Path(__file__).resolve().parents[3]
_EVENTS = "user,item,at,signal\n" + "".join(
    f"u{user},cup {item},2026-01-0{1 + item}T10:00:00Z,click\n" for user in range(9) for item in range(user % 3, 6)
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "data"
    made.mkdir()
    (made / "events.csv").write_text(_EVENTS)
    (made / "Items.csv").write_text("item,text\n" + "".join(f"cup {item},a cup\n" for item in range(6)))
    (made / "README.md").write_text("events.csv is from the shop")
    return made


def _run(*words: str) -> Any:
    return CliRunner().invoke(app, ["init", *words])


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_settings_that_load_a_page_and_a_beginning(name: str, tmp_path: Path) -> None:
    recipe = recipe_named(name)
    assert recipe.name == name
    assert (ROOT / recipe.page).is_file()
    config = tmp_path / "perennial.toml"
    config.write_text("".join(model.section(f"my_{model.name}") for model in recipe.models))
    settings = load_settings(config)
    assert {f"my_{model.name}": model.task for model in recipe.models} == {
        model: section.task for model, section in settings.models.items()
    }
    assert all(hasattr(beginning_of(model.task, model.beginning), "make") for model in recipe.models)
    assert all(model.files for model in recipe.models)


def test_headlines_begin_with_the_fast_learner_and_go_on_with_the_tuned_one() -> None:
    (model,) = recipe_named("opinion").models
    learning = ModelSettings.model_validate(tomllib.loads(model.section("wire"))["models"]["wire"]).learning
    first = learning.of_first_version()
    assert (first.learner, first.params) == ("auto", {})
    assert (learning.learner, learning.params["head"]) == ("finetune", "fused")
    assert first.of_first_version() == first
    same = {"learner": "ridge", "first_learner": "ridge", "params": {"features": 9}}
    assert ModelSettings.model_validate({"task": "opinion", "learning": same}).learning.of_first_version().params
    with pytest.raises(ValueError, match=r"learner 'item_gram' makes no models of task 'opinion'"):
        ModelSettings.model_validate({"task": "opinion", "learning": {"first_learner": "item_gram"}})


def test_models_of_all_recipes_have_different_names() -> None:
    names = [model.name for name in RECIPES for model in recipe_named(name).models]
    assert len(set(names)) == len(names)


def test_a_dry_run_tells_which_file_is_what_and_writes_nothing(folder: Path) -> None:
    plan = json.loads(_run("--recipe", "recommendation", "--data", str(folder), "--dry-run").stdout)
    (model,) = plan["models"]
    assert (plan["recipe"], plan["page"]) == ("recommendation", "docs/recommendation.md")
    assert model["files"] == {"data": str(folder / "events.csv"), "items": str(folder / "Items.csv")}
    assert (model["model"], model["task"], model["users"], model["items"]) == ("recommendation", "ranking", 9, 6)
    assert model["then"] == "train and publish version 1"
    assert not Path("perennial.toml").exists()


def test_without_data_the_settings_alone_are_written_beside_what_is_there(folder: Path) -> None:
    del folder
    Path("perennial.toml").write_text("# mine\n[models.sales]\n")
    assert _run("films", "--recipe", "recommendation").exit_code == 0
    written = Path("perennial.toml").read_text()
    assert written.startswith("# mine\n[models.sales]\n")
    assert tomllib.loads(written)["models"]["films"]["task"] == "ranking"
    again = _run("films", "--recipe", "recommendation")
    assert (again.exit_code, Path("perennial.toml").read_text()) == (0, written)


@pytest.mark.parametrize(
    ("prepare", "refusal", "message"),
    [
        (lambda folder: (folder / "events.csv").unlink(), DataError, r"has Items.csv; this recipe needs events or rat"),
        (lambda folder: (folder / "events.json").write_text("[]"), DataError, r"has events.csv and events.json; leave"),
        (
            lambda _: Path("perennial.toml").write_text("[models.recommendation]\n"),
            ConfigurationError,
            r"recommendation is of task 'text_classification', and recipe recommendation makes one of 'ranking'",
        ),
    ],
)
def test_what_a_folder_or_the_settings_lack_is_said(
    folder: Path, prepare: Any, refusal: type[PerennialError], message: str
) -> None:
    prepare(folder)
    with pytest.raises(refusal, match=message):
        raise _run("--recipe", "recommendation", "--data", str(folder), "--dry-run").exception


def test_a_recipe_of_another_name_or_with_other_options_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="recipe 'cooking' is unknown; use one of"):
        recipe_named("cooking")
    refused = _run("--recipe", "recommendation", "--task", "ranking", "--data", str(folder))
    assert (refused.exit_code, "a recipe knows task, items and columns" in refused.output) == (2, True)
    with pytest.raises(DataError, match="is no folder; --recipe takes a folder"):
        raise _run("--recipe", "recommendation", "--data", str(folder / "events.csv")).exception


def test_a_packed_file_counts_and_a_better_name_wins(tmp_path: Path) -> None:
    role = FileRole(name="data", stems=("events", "ratings"), holds="user, item, at")
    for name in ("ratings.parquet", "Events.jsonl.gz", "events.pdf"):
        (tmp_path / name).touch()
    assert role.found(tmp_path) == tmp_path / "Events.jsonl.gz"
    assert FileRole(name="items", stems=("items",), holds="item", required=False).found(tmp_path) is None
