"""Generation: approved replies rewritten for tone and name, and never for what they say."""

from perennial.continual.tasks.generation.guard import GuardVerdict, check_rewrite

__all__ = ["GuardVerdict", "check_rewrite"]
