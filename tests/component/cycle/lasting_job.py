"""A job that lasts until it is told to end: `python -m tests.component.cycle.lasting_job WORDS...`."""

import json
import os
import signal
import sys

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    facts = {"module": __name__, "arguments": sys.argv[1:], "told": os.environ.get("TOLD"), "niceness": os.nice(0)}
    print(json.dumps(facts), flush=True)
    signal.sigwait([signal.SIGTERM])
    print("its last words", file=sys.stderr)
    sys.exit(7)
