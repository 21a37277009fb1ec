"""What `init` asks of a task, found by the task's name."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from perennial.continual.errors import ConfigurationError

if TYPE_CHECKING:
    from perennial.continual.preparation import FileReading
    from perennial.ops.settings import LearningSettings

__all__ = ["BEGINNINGS", "Beginning", "Files", "beginning_of"]

BEGINNINGS: Mapping[str, str] = {
    "generation": "perennial.ops.cli.beginning.rewrites",
    "image_classification": "perennial.ops.cli.beginning.labelled_images",
    "opinion": "perennial.ops.cli.beginning.labelled_texts",
    "ranking": "perennial.ops.cli.beginning.events",
    "replies": "perennial.ops.cli.beginning.replies",
    "text_classification": "perennial.ops.cli.beginning.labelled_texts",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What the user gives a first version to learn from: rows, the catalogue of a ranking, and how both are read.

    `others` are further files of a recipe, by the names of their roles; `attributes` are columns that say whose rows
    are.
    """

    data: Path
    items: Path | None
    reading: "FileReading"
    others: Mapping[str, Path] = field(default_factory=dict)
    attributes: Sequence[str] = ()


class Beginning(Protocol):
    """What the module of a task offers."""

    def read(self, files: Files) -> Any:
        """The rows of the files.

        Raises:
            DataError: a file cannot be read, or a row is wrong.
            ConfigurationError: a file is given that the task has no use for, or one is missing.
        """
        ...

    def plan(self, read: Any, learning: "LearningSettings") -> Mapping[str, Any]:
        """What is told of the rows before anything is done with them.

        Raises:
            DataError: they are too few for a first version; what was found is said on stderr.
        """
        ...

    def make(self, config: Path, model: str, read: Any) -> Mapping[str, Any]:
        """Make the first version, and tell what became of it and how good it is."""
        ...


def beginning_of(task: str, module: str = "") -> Beginning:
    """The module of a task, or the one that a recipe names in its place.

    Raises:
        ConfigurationError: this version makes no first version for the task.
    """
    if module:
        return cast("Beginning", importlib.import_module(module))
    if task not in BEGINNINGS:
        raise ConfigurationError(f"task {task!r} is unknown; use one of {', '.join(sorted(BEGINNINGS))}")
    return cast("Beginning", importlib.import_module(BEGINNINGS[task]))
