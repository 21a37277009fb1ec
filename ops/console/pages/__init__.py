"""The pages, each with its forms, in modules of what they are about."""

from collections.abc import Callable

from perennial.ops.console.desk import Desk
from perennial.ops.console.pages.data import add_data
from perennial.ops.console.pages.drift import add_drift
from perennial.ops.console.pages.images import add_images
from perennial.ops.console.pages.labelling import add_labelling
from perennial.ops.console.pages.models import add_models
from perennial.ops.console.pages.operations import add_operations
from perennial.ops.console.pages.overview import add_overview
from perennial.ops.console.pages.people import add_people
from perennial.ops.console.pages.recipes import add_recipes
from perennial.ops.console.pages.rollout import add_rollout

__all__ = ["PAGES"]

PAGES: tuple[Callable[[Desk], None], ...] = (
    add_overview,
    add_models,
    add_rollout,
    add_drift,
    add_labelling,
    add_data,
    add_images,
    add_recipes,
    add_operations,
    add_people,
)
