"""`init --recipe`: the models of a recipe named with its settings, and their first versions made of one folder."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.ops.cli.beginning.port import Beginning, Files, beginning_of
from perennial.ops.cli.console import say

if TYPE_CHECKING:
    from perennial.ops.recipes import Recipe, RecipeModel

__all__ = ["RecipeStep", "begin_recipe", "plan_recipe", "steps_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeStep:
    """One model of a recipe under its name here, with what was read of its files."""

    name: str
    model: "RecipeModel"
    files: Files | None  # None: only the settings are written
    beginning: Beginning
    read: Any = None


def steps_of(config: Path, recipe: "Recipe", name: str, folder: Path | None) -> tuple[RecipeStep, ...]:
    """The models of a recipe, with the rows of the folder read.

    Raises:
        ConfigurationError: one name is given for several models, or the settings have one for another task.
        DataError: a file is missing, cannot be read, or a row is wrong.
    """
    return tuple(_steps(config, recipe, name, folder))


def plan_recipe(config: Path, recipe: "Recipe", steps: Sequence[RecipeStep]) -> dict[str, Any]:
    """What `begin_recipe` would do, and what it would refuse."""
    from perennial.ops.store.settings_file import named_models

    known = named_models(config) if config.is_file() else ()
    models = []
    for step in steps:
        planned = {} if step.read is None else dict(step.beginning.plan(step.read, _learning_of(step)))
        writes = None if step.name in known else str(config)
        models.append({"model": step.name, "task": step.model.task, "writes": writes, "files": _named(step), **planned})
    return {"dry_run": True, "recipe": recipe.name, "page": recipe.page, "models": models}


def begin_recipe(
    config: Path, recipe: "Recipe", steps: Sequence[RecipeStep], name_model: Callable[[Path, str, str], None]
) -> dict[str, Any]:
    """Name the models in the settings, and make their first versions, one after the other.

    `name_model` gives the settings a model's section, where they do not have it yet.

    Raises:
        Refused: one of them serves already. Others: as the beginning of its task.
    """
    for step in steps:
        name_model(config, step.name, step.model.section(step.name))
    made = [
        {"model": step.name, "files": _named(step), **step.beginning.make(config, step.name, step.read)}
        for step in steps
        if step.read is not None
    ]
    if not made:
        say(f"next: perennial init --recipe {recipe.name} --data FOLDER")
    return {"recipe": recipe.name, "page": recipe.page, "models": made}


def _steps(config: Path, recipe: "Recipe", name: str, folder: Path | None) -> Iterator[RecipeStep]:
    from perennial.continual.errors import ConfigurationError
    from perennial.ops.settings import load_settings

    if name and len(recipe.models) > 1:
        names = ", ".join(model.name for model in recipe.models)
        raise ConfigurationError(f"recipe {recipe.name} has {len(recipe.models)} models ({names}); leave NAME out")
    configured = {} if not config.is_file() else {one: each.task for one, each in load_settings(config).models.items()}
    for model in recipe.models:
        chosen = name or model.name
        if configured.get(chosen, model.task) != model.task:
            raise ConfigurationError(
                f"{config} says that {chosen} is of task {configured[chosen]!r}, and recipe {recipe.name} makes one of "
                f"{model.task!r}; give another NAME"
            )
        beginning = beginning_of(model.task, model.beginning)
        files = None if folder is None else _files(model, folder)
        read = None if files is None else beginning.read(files)
        yield RecipeStep(name=chosen, model=model, files=files, beginning=beginning, read=read)


def _files(model: "RecipeModel", folder: Path) -> Files:
    """What the folder has for a model.

    Raises:
        DataError: it is no folder, or lacks a file.
    """
    from perennial.continual.errors import DataError
    from perennial.continual.preparation import FileReading
    from perennial.ops.recipes.recipe import DATA, ITEMS

    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; --recipe takes a folder by --data, with the files that its page names")
    found = {file.role: file.path for file in model.found(folder)}
    others = {role: path for role, path in found.items() if role not in (DATA, ITEMS)}
    return Files(data=found[DATA], items=found.get(ITEMS), reading=FileReading(), others=others)


def _named(step: RecipeStep) -> dict[str, str]:
    """The files by what they are."""
    if step.files is None:
        return {}
    named = {"data": step.files.data, "items": step.files.items, **step.files.others}
    return {role: str(path) for role, path in named.items() if path is not None}


def _learning_of(step: RecipeStep) -> Any:
    """The settings that a first version would be learnt by."""
    import tomllib

    from perennial.ops.settings import ModelSettings

    section = tomllib.loads(step.model.section(step.name))["models"][step.name]
    return ModelSettings.model_validate(section).learning
