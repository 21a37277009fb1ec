"""A job that tells what it is: `python -m tests.component.cycle.telling_job WORDS...`."""

import json
import os
import sys
from pathlib import Path

_OWN = 4  # descriptors: the three usual ones, and that of the folder which is read here

if __name__ == "__main__":
    facts = {
        "parent": os.getppid(),
        "module": __name__,
        "arguments": sys.argv[1:],
        "told": os.environ.get("TOLD"),
        "leads_its_session": os.getsid(0) == os.getpid(),
        "niceness": os.nice(0),
        "nobody_else_holds_its_output": len(list(Path("/proc/self/fd").iterdir())) <= _OWN,
    }
    print(json.dumps(facts), flush=True)
    print("its last words", file=sys.stderr)
    sys.exit(7)
