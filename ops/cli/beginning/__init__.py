"""How `init` makes a model's first version of a file: what it reads, what it says of it, and what it prints."""

from perennial.ops.cli.beginning.port import BEGINNINGS, Beginning, Files, beginning_of

__all__ = ["BEGINNINGS", "Beginning", "Files", "beginning_of"]
