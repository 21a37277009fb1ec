"""`python -m ops.triton.launch stop|keep COMMAND...`: becomes the server, bound to its parent or not."""

import ctypes
import os
import signal
import sys

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel to end this process with its parent when told to, then become the command."""
    if sys.argv[1] == "stop":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(143)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
