"""What a recipe is, and where each is found by its name."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from perennial.continual.errors import ConfigurationError, DataError

__all__ = ["DATA", "ITEMS", "RECIPES", "FileRole", "FolderFile", "Recipe", "RecipeModel", "recipe_named"]

RECIPES: Mapping[str, str] = {
    "opinion": "perennial.ops.recipes.opinion",
    "recommendation": "perennial.ops.recipes.recommendation",
    "service": "perennial.ops.recipes.service",
}
DATA, ITEMS = "data", "items"  # the roles that `init` has options for; a recipe may name more
_PACKED = {".gz", ".zst", ".zip"}
_ROWS = {".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFile:
    """A file of a folder, and what it is."""

    role: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRole:
    """What a model learns from, and the names by which a folder may have it, the best first.

    >>> FileRole(name="items", stems=("items",), holds="item, text").required
    True
    """

    name: str
    stems: tuple[str, ...]
    holds: str  # its columns, in words
    required: bool = True

    def found(self, folder: Path) -> Path | None:
        """The file of a folder that is it; None where there is none and none is needed.

        Raises:
            DataError: it is missing and needed, or two files have the same name.
        """
        files = [path for path in sorted(folder.iterdir()) if path.is_file() and _kind(path) in _ROWS]
        for stem in self.stems:
            named = [path for path in files if _stem(path) == stem]
            if len(named) > 1:
                raise DataError(
                    f"{folder} has {' and '.join(path.name for path in named)}; leave one, or give files with --data"
                )
            if named:
                return named[0]
        if not self.required:
            return None
        names = ", ".join(path.name for path in files) or "no file of rows"
        raise DataError(
            f"{folder} has {names}; this recipe needs {' or '.join(self.stems)} (.csv, .json, .parquet and so on) "
            f"with {self.holds}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeModel:
    """One model of a recipe.

    `settings` is TOML with comments, in which `{model}` stands for the model's name. `beginning` is a module that makes
    the first version (`perennial.ops.cli.beginning.port`); empty is that of the task.
    """

    name: str
    task: str
    settings: str
    files: tuple[FileRole, ...]
    beginning: str = ""

    def section(self, name: str) -> str:
        """The settings of the model under a name."""
        return self.settings.replace("{model}", name)

    def found(self, folder: Path) -> tuple[FolderFile, ...]:
        """The files of a folder that it learns from.

        Raises:
            DataError: one that it needs is missing, or two have the same name.
        """
        found = ((role, role.found(folder)) for role in self.files)
        return tuple(FolderFile(role=role.name, path=path) for role, path in found if path is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Models with the settings that were measured for them. `page` is the page of the documentation about it."""

    name: str
    summary: str
    page: str
    models: tuple[RecipeModel, ...]


def recipe_named(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ConfigurationError: there is none.

    >>> recipe_named("recommendation").models[0].task
    'ranking'
    """
    if name not in RECIPES:
        raise ConfigurationError(f"recipe {name!r} is unknown; use one of {', '.join(sorted(RECIPES))}")
    recipe = importlib.import_module(RECIPES[name]).RECIPE
    assert isinstance(recipe, Recipe)
    return recipe


def _kind(path: Path) -> str:
    """A file's ending, under that of its packing."""
    kinds = [suffix.lower() for suffix in path.suffixes]
    while kinds and kinds[-1] in _PACKED:
        kinds.pop()
    return kinds[-1] if kinds else ""


def _stem(path: Path) -> str:
    return path.name.split(".")[0].lower()
