"""A job that tells what it is: `python -m tests.component.cycle.telling_job WORDS...`."""

import json
import os
import sys
from pathlib import Path

_OWN = 3  # descriptors: the three usual ones; that of the folder which is read here has gone when it is looked at
_STATUS = 1  # where a warm job says that it is done


def _held() -> tuple[int, int]:
    """How many descriptors there are that are no sockets, and how many sockets."""
    links = [str(path.readlink()) for path in list(Path("/proc/self/fd").iterdir()) if path.is_symlink()]
    sockets = sum(link.startswith("socket:") for link in links)
    return len(links) - sockets, sockets


if __name__ == "__main__":
    held, sockets = _held()
    facts = {
        "parent": os.getppid(),
        "module": __name__,
        "arguments": sys.argv[1:],
        "told": os.environ.get("TOLD"),
        "leads_its_session": os.getsid(0) == os.getpid(),
        "niceness": os.nice(0),
        "nobody_else_holds_its_output": held <= _OWN and sockets <= _STATUS,
    }
    print(json.dumps(facts), flush=True)
    print("its last words", file=sys.stderr)
    sys.exit(7)
