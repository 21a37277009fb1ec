"""A job that waits for a file: `sleeping_job FILE` says that it has begun, and ends once the file is there."""

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    print('{"begun": true}', flush=True)
    while not Path(sys.argv[1]).exists():
        time.sleep(0.05)
