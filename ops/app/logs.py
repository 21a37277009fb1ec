"""Log lines as JSON on stderr; configured by `main` only."""

import logging
import sys
from datetime import UTC, datetime

from perennial.ops.safety.log_context import told_about
from perennial.ops.safety.printable import json_text

__all__ = ["JsonFormatter", "configure_logging"]

_KNOWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, what the thread is about, and the facts given in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **told_about(),
            **{name: value for name, value in record.__dict__.items() if name not in _KNOWN},
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json_text(line)


def configure_logging(level: str) -> None:
    """Send records from `level` on to stderr. Call it once, in `main`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "uvicorn.error", "alembic", "apscheduler"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
