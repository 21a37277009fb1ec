"""Progress of jobs that take longer than a second."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["stages"]


@contextmanager
def stages(title: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar on stderr that follows `{"stage", "done", "total"}` reports."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from perennial.ops.safety.printable import printable

    named = TextColumn("{task.description}", markup=False)
    columns = (named, BarColumn(), TextColumn("{task.fields[count]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, count="")

        def tell(told: dict[str, Any]) -> None:
            done, total = told.get("done"), told.get("total")
            count = f"{done}/{total}" if done is not None and total else ""
            stage = printable(f"{title}: {told.get('stage', '')}", one_line=True)
            bar.update(task, description=stage, completed=done or 0, total=total, count=count)

        yield tell
