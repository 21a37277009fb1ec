"""Generation: approved replies rewritten for tone and name, and never for what they say."""

from perennial.continual.tasks.generation.guard import GuardVerdict, check_rewrite
from perennial.continual.tasks.generation.rewrite import AcceptedEdit, Rewrite
from perennial.continual.tasks.generation.task import Generation

__all__ = ["AcceptedEdit", "Generation", "GuardVerdict", "Rewrite", "check_rewrite"]
