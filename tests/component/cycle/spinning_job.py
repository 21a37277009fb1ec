"""A job that wants one whole processor for a while: `python -m tests.component.cycle.spinning_job CPU SECONDS`."""

import json
import os
import sys
import time

if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    began, used = time.perf_counter(), time.process_time()
    end = began + float(sys.argv[2])
    while time.perf_counter() < end:
        pass
    print(json.dumps({"share": (time.process_time() - used) / (time.perf_counter() - began)}), flush=True)
