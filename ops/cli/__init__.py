"""The command line: `perennial <noun> <verb>`."""

from ops.cli.main import main

__all__ = ["main"]
