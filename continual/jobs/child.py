"""`perennial.continual.jobs.child NICENESS MODULE ARGUMENTS...`: a polite job, which does not outlive its parent.

The job gets SIGTERM when the process that started it dies, however it dies, so that a restarted loop never meets a
training of its predecessor still at work. Where memory runs out, the kernel ends it before anything that serves.
"""

import ctypes
import os
import runpy
import signal
import sys
from contextlib import suppress
from pathlib import Path

from perennial.continual.jobs.priority import lower_priority

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Bind this process to its parent, lower its priority, and become the module."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent died before the line above
        sys.exit(143)
    lower_priority(int(sys.argv[1]))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    module = sys.argv[2]
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)  # a package runs its __main__


if __name__ == "__main__":
    main()
