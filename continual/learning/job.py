"""A training process: `python -m perennial.continual.learning.job SPEC.json`.

Progress goes to standard output as JSON lines, logs to standard error. Exit codes: 0 the model is there, 143 stopped
by SIGTERM after a checkpoint, else the code of the error. A job that was killed is simply started again: what it had
embedded or trained is on disk, and `model.json` appears only when all else is.
"""

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from perennial.continual.errors import InputError, PerennialError
from perennial.continual.jobs.priority import lower_priority
from perennial.continual.learning.context import Cancelled, Context, WorkedAhead
from perennial.continual.learning.learners import LEARNERS, train_model
from perennial.continual.learning.mapped_rows import mapped_once
from perennial.continual.learning.spec import JobSpec

__all__ = ["log_to_stderr", "main"]

logger = logging.getLogger(__name__)

_STOPPED = 143  # 128 + SIGTERM
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: Sequence[str], ahead: WorkedAhead | None = None) -> int:
    """Runs the job in the spec file named by the only argument, with what is ready of it, and returns the exit code."""
    log_to_stderr()
    if len(arguments) != 1:
        logger.error("usage: python -m perennial.continual.learning.job SPEC.json")
        return InputError.exit_code
    context = Context.on_stdout()
    context.ahead = ahead
    restore = context.listen()
    try:
        spec = JobSpec.read(Path(arguments[0]))
        _be_modest(spec)
        spec = _with_encoder(spec)
        with mapped_once():  # the rows that prove it
            card = train_model(spec, context)
            LEARNERS[spec.learner].prove(spec)
    except Cancelled:
        logger.info("job.stopped")
        return _STOPPED
    except PerennialError as error:
        sys.stdout.write(json.dumps({"stage": "failed", "error": type(error).__name__, "message": str(error)}) + "\n")
        logger.error("%s: %s", type(error).__name__, error)
        return error.exit_code
    finally:
        restore()
    sys.stdout.write(json.dumps({"stage": "done", "done": 1, "total": 1, "metrics": card.metrics}) + "\n")
    return 0


def log_to_stderr() -> None:
    """Have what is logged on standard error, for the job's log."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s %(message)s")


def _with_encoder(spec: JobSpec) -> JobSpec:
    """The choice is made here, not in the control process: it reads large tokenizers and may convert an encoder."""
    if not LEARNERS[spec.learner].embeds:
        return spec
    from perennial.continual.learning.encoder_choice import named_by_rows

    return named_by_rows(spec)


def _be_modest(spec: JobSpec) -> None:
    """Lowers this process's priority and its threads, before a numerical library is loaded or asked."""
    lower_priority(spec.nice)
    if not spec.threads:
        return
    for name in _THREAD_SETTINGS:
        os.environ[name] = str(spec.threads)
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    threadpool_limits(limits=spec.threads)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
