"""Log records of a backend's process go to Triton's own log, with their facts."""

import json
import logging
from typing import Any

__all__ = ["log_through_triton"]

_KNOWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "taskName"}


class _TritonHandler(logging.Handler):
    def __init__(self, triton: Any) -> None:
        super().__init__(logging.INFO)
        self._triton = triton

    def emit(self, record: logging.LogRecord) -> None:
        facts = {k: v for k, v in record.__dict__.items() if k not in _KNOWN}
        line = f"{record.getMessage()} {json.dumps(facts, default=str)}" if facts else record.getMessage()
        if record.levelno >= logging.ERROR:
            self._triton.log_error(line)
        elif record.levelno >= logging.WARNING:
            self._triton.log_warn(line)
        else:
            self._triton.log_info(line)


def log_through_triton(triton: Any) -> None:
    """Send what this process logs from INFO on to Triton's logger. Called once, when a backend starts."""
    root = logging.getLogger()
    root.handlers[:] = [_TritonHandler(triton)]
    root.setLevel(logging.INFO)
