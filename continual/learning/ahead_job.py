"""`python -m perennial.continual.learning.ahead_job LAST.json BUNDLE`: a training that begins before its rows come.

By the spec of the training that made BUNDLE it works out what the next one needs, at the lowest priority. Then it waits
for one line on its standard input, `{"arguments": [SPEC], "log": PATH}`, and is that training. It ends without one when
the other end is closed. A line that comes earlier is obeyed at once, without what is not ready.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from perennial.continual.errors import PerennialError
from perennial.continual.jobs.priority import give_way, lower_this_thread
from perennial.continual.learning import job
from perennial.continual.learning.ahead import Ahead
from perennial.continual.learning.spec import JobSpec

__all__ = ["main"]

logger = logging.getLogger(__name__)
_WORKING_NICENESS = 19


class _Work(threading.Thread):
    """In a thread of its own, which has a priority of its own: it cannot be raised again."""

    def __init__(self, last: Path, bundle: Path) -> None:
        super().__init__(name="ahead", daemon=True)
        self._last, self._bundle = last, bundle
        self.ahead: Ahead | None = None

    def run(self) -> None:
        """Work it out; whatever is wrong, the training itself will say it."""
        lower_this_thread(_WORKING_NICENESS)
        try:
            self.ahead = Ahead.of(self._bundle, JobSpec.read(self._last))
            logger.info("training.worked_ahead" if self.ahead is not None else "training.nothing_to_work_ahead")
        except (PerennialError, OSError) as error:
            logger.warning("training.not_worked_out_ahead", extra={"error": str(error)})


def main(arguments: Sequence[str]) -> int:
    """Work ahead, wait for the order, and be the job."""
    job.log_to_stderr()
    last, bundle = (Path(argument) for argument in arguments[:2])  # what follows tells one job from another
    work = _Work(last, bundle)
    give_way(_WORKING_NICENESS)
    work.start()
    line = sys.stdin.readline()
    if not line:
        return 0
    give_way(os.nice(0))
    order = json.loads(line)
    with Path(order["log"]).open("ab") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    return job.main(order["arguments"], work.ahead)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
