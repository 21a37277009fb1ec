"""`python -P .../module.py MODULE ARGUMENTS...`: a module of ours in a process of its own.

It is found from any working folder, installed or not, and nothing that lies in the working folder is imported in the
place of what is meant.
"""

import runpy
import sys
from pathlib import Path

__all__ = ["main", "module_command"]


def module_command(module: str, *arguments: str) -> list[str]:
    """What to start so that this Python runs the module as its program."""
    return [sys.executable, "-P", str(Path(__file__).absolute()), module, *arguments]


def main() -> None:
    """Become the module."""
    root = str(Path(__file__).absolute().parents[3])
    if root not in sys.path:
        sys.path.append(root)  # behind everything else: it may hold other packages too
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)  # a package runs its __main__


if __name__ == "__main__":
    main()
