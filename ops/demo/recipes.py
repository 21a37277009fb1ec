"""The demonstration of each recipe, found by its name, and what all of them may be told."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from perennial.continual.errors import ConfigurationError, DataError

__all__ = ["DEMOS", "Progress", "RecipeDemo", "RecipeDemoOptions", "recipe_demo"]

DEMOS: Mapping[str, str] = {
    "opinion": "perennial.ops.demo.opinion",
    "recommendation": "perennial.ops.demo.recommendation",
    "service": "perennial.ops.demo.service",
}
Progress = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeDemoOptions:
    """`rate` is requests a second; None leaves it to the recipe. Without a folder of `data`, data are generated."""

    out: Path
    data: Path | None = None
    seed: int = 0
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not 0 < self.rate <= 2_000:
            raise DataError(f"rate {self.rate} must lie in (0, 2000] requests a second")


class RecipeDemo(Protocol):
    """What the module of a recipe's demonstration offers."""

    def run(self, options: RecipeDemoOptions, progress: Progress) -> Mapping[str, Any]:
        """Run it, and return the figures, which lie in `summary.json` of `options.out` too.

        Raises:
            DataError: the data or the output folder cannot be used.
            DependencyUnreachable: the server did not come up.
            PerennialError: a change of the world was never answered by a new version in its time.
        """
        ...


def recipe_demo(name: str) -> RecipeDemo:
    """The demonstration of a recipe.

    Raises:
        ConfigurationError: it has none.
    """
    if name not in DEMOS:
        raise ConfigurationError(f"recipe {name!r} has no demonstration; use one of {', '.join(sorted(DEMOS))}")
    return cast("RecipeDemo", importlib.import_module(DEMOS[name]))
