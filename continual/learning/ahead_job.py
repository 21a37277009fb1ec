"""`python -m perennial.continual.learning.ahead_job LAST.json BUNDLE`: a training that begins before its rows come.

By the spec of the training that made BUNDLE it works out what the next one needs, at the lowest priority, and takes
the memory for it. Then it waits for one line on its standard input, `{"arguments": [SPEC], "log": PATH}`, and is that
training. It ends without one when the other end is closed. A line that comes earlier is obeyed at once, without what
is not ready.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from perennial.continual.errors import PerennialError
from perennial.continual.jobs.memory import keep_freed, take_ahead
from perennial.continual.jobs.told import told_after
from perennial.continual.learning import job
from perennial.continual.learning.ahead import Ahead
from perennial.continual.learning.spec import JobSpec

__all__ = ["main"]

logger = logging.getLogger(__name__)


class _Work:
    def __init__(self, last: Path, bundle: Path) -> None:
        self._last, self._bundle = last, bundle
        self.ahead: Ahead | None = None

    def run(self) -> None:
        """Work it out; whatever is wrong, the training itself will say it."""
        try:
            self.ahead = Ahead.of(self._bundle, JobSpec.read(self._last))
            logger.info("training.worked_ahead" if self.ahead is not None else "training.nothing_to_work_ahead")
            take_ahead(0.0 if self.ahead is None else self.ahead.takes_mb)
        except (PerennialError, OSError) as error:
            logger.warning("training.not_worked_out_ahead", extra={"error": str(error)})


def main(arguments: Sequence[str]) -> int:
    """Work ahead, wait for the order, and be the job."""
    job.log_to_stderr()
    last, bundle = (Path(argument) for argument in arguments[:2])  # what follows tells one job from another
    keep_freed()
    work = _Work(last, bundle)
    order = told_after(work.run)
    return 0 if order is None else job.main(order, work.ahead)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
