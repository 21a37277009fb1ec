"""Progress of jobs that take longer than a second, on stderr: a bar on a terminal, elsewhere a line now and then."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["rows_said", "stages"]

_EVERY_S = 5.0
_OnProgress = Callable[[dict[str, Any]], None]


def rows_said() -> Callable[[int, int], None]:
    """Says every few seconds how many rows of a file are through; nothing of a file that takes less."""
    began = said = time.monotonic()

    def on_rows(done: int, total: int) -> None:
        nonlocal began, said
        now = time.monotonic()
        if not done:  # another file begins
            began = said = now
        if now - said < _EVERY_S:
            return
        from perennial.ops.cli.console import say

        said = now
        left = (now - began) * (total - done) / done
        say(f"read the rows: {done:,} of {total:,}, about {left:.0f} s left")

    return on_rows


@contextmanager
def stages(title: str) -> Iterator[_OnProgress]:
    """Follows `{"stage", "done", "total"}` reports."""
    from rich.console import Console

    console = Console(stderr=True)
    with _bar(title, console) if console.is_terminal else _lines(title) as on_progress:
        yield on_progress


@contextmanager
def _bar(title: str, console: Any) -> Iterator[_OnProgress]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from perennial.ops.safety.printable import printable

    named = TextColumn("{task.description}", markup=False)
    columns = (named, BarColumn(), TextColumn("{task.fields[count]}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, count="")

        def on_progress(report: dict[str, Any]) -> None:
            done, total = report.get("done"), report.get("total")
            count = f"{done}/{total}" if done is not None and total else ""
            stage = printable(f"{title}: {report.get('stage', '')}", one_line=True)
            bar.update(task, description=stage, completed=done or 0, total=total, count=count)

        yield on_progress


@contextmanager
def _lines(title: str) -> Iterator[_OnProgress]:
    """A line when a stage begins, and every few seconds while one goes on."""
    last, ended = _LastReport(title), threading.Event()

    def repeat() -> None:
        while not ended.wait(_EVERY_S):
            last.say()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield last.take
    finally:
        ended.set()
        thread.join()


class _LastReport:
    """The last report, and since when its stage goes on."""

    def __init__(self, title: str) -> None:
        self._title, self._began = title, time.monotonic()
        self._stage, self._since = "", self._began
        self._done: float | None = None
        self._total: float | None = None
        self._first: float | None = None  # what was done when the stage began: a cache may have held it

    def take(self, report: dict[str, Any]) -> None:
        stage = str(report.get("stage", ""))
        new = stage != self._stage
        if new:
            self._stage, self._since, self._first = stage, time.monotonic(), None
        self._done, self._total = report.get("done"), report.get("total")
        if self._first is None:
            self._first = self._done
        if new and stage not in {"", "done"}:
            self.say()

    def say(self) -> None:
        from perennial.ops.cli.console import say
        from perennial.ops.safety.printable import printable

        now = time.monotonic()
        parts = [f"{self._title}: {self._stage or 'begins'}"]
        if self._done is not None and self._total:
            parts.append(f"{self._done:,.0f} of {self._total:,.0f}")
        parts.append(f"{now - self._began:.0f} s so far")
        if (left := self._left_s(now)) is not None:
            parts.append(f"about {left:.0f} s left of this step")
        say(printable(", ".join(parts), one_line=True))

    def _left_s(self, now: float) -> float | None:
        """An estimate by how fast the stage went so far."""
        if not self._total or self._done is None or self._first is None or self._done <= self._first:
            return None
        return (now - self._since) * (self._total - self._done) / (self._done - self._first)
