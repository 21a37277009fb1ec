"""Lines of the log say which model, version and cycle they are of, without each place saying it."""

import json
import logging
import threading

from perennial.ops.app.logs import JsonFormatter
from perennial.ops.safety.log_context import about


def line(**extra: object) -> dict[str, object]:
    record = logging.getLogger("perennial.test").makeRecord(
        "t", logging.INFO, "f", 1, "job.done", (), None, extra=extra
    )
    told: dict[str, object] = json.loads(JsonFormatter().format(record))
    return told


def test_a_line_tells_what_its_thread_is_about_and_no_more() -> None:
    others: list[dict[str, object]] = []
    with about(model="intent"):
        with about(cycle=7, version=None):
            thread = threading.Thread(target=lambda: others.append(line()))
            thread.start()
            thread.join()
            inner = line(version=3)
        outer = line(model="news")
    assert (inner["model"], inner["cycle"], inner["version"]) == ("intent", 7, 3)
    assert "cycle" not in outer
    assert outer["model"] == "news", "what a record says itself counts"
    assert not {"model", "cycle", "version"} & line().keys()
    assert not {"model", "cycle", "version"} & others[0].keys(), "another thread is about something else"
