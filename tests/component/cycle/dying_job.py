"""A job that something kills at its first runs: `dying_job FILE TIMES` notes each run in FILE."""

import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    path, times = Path(sys.argv[1]), int(sys.argv[2])
    with path.open("a") as file:
        file.write("run\n")
    if len(path.read_text().splitlines()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    print("done")
