"""The tasks that can be served, by name. A stub imports the one that its model has, and no other."""

import importlib
from collections.abc import Mapping
from typing import cast

from perennial.continual.errors import ConfigurationError
from perennial.ops.serving.port import ServingSide

__all__ = ["SIDES", "serving_side"]

SIDES: Mapping[str, str] = {  # by the task's name: the module whose SIDE it is
    "generation": "perennial.ops.serving.tasks.generation",
    "image_classification": "perennial.ops.serving.tasks.image_classification",
    "opinion": "perennial.ops.serving.tasks.opinion",
    "ranking": "perennial.ops.serving.tasks.ranking",
    "replies": "perennial.ops.serving.tasks.replies",
    "text_classification": "perennial.ops.serving.tasks.text_classification",
}


def serving_side(task: str) -> ServingSide:
    """The side of a task.

    Raises:
        ConfigurationError: it cannot be served.
    """
    if task not in SIDES:
        raise ConfigurationError(f"task {task!r} cannot be served here; use one of {', '.join(sorted(SIDES))}")
    return cast("ServingSide", importlib.import_module(SIDES[task]).SIDE)
