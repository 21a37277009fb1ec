"""The command line: `perennial <noun> <verb>`."""

from perennial.ops.cli.main import main

__all__ = ["main"]
