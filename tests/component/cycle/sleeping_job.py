"""A job that waits for a file: `sleeping_job FILE` says that it has begun, and ends once the file is there.

With `orderly` behind it, one that is told to end gives an exit code of its own.
"""

import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    if "orderly" in sys.argv:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print('{"begun": true}', flush=True)
    while not Path(sys.argv[1]).exists():
        time.sleep(0.05)
