"""`python -m perennial.continual.learning.compression.job SPEC.json`: the steps of one compression, told on stdout."""

import sys
from collections.abc import Sequence
from pathlib import Path

from perennial.continual.errors import PerennialError
from perennial.continual.learning.compression.steps import CompressionSpec, compress
from perennial.continual.learning.context import Cancelled, Context

__all__ = ["main"]

_STOPPED = 143  # 128 + SIGTERM


def main(arguments: Sequence[str]) -> int:
    """Exit as a training does; what was made stands in `steps.json`. One that was killed goes on where it was."""
    context = Context.on_stdout()
    restore = context.listen()
    try:
        compress(CompressionSpec.read(Path(arguments[0])), context)
    except Cancelled:
        return _STOPPED
    except PerennialError as exc:
        sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
        return exc.exit_code
    finally:
        restore()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
