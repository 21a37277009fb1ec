"""Sums on their way to the disk while what solves them is at work: nothing changes them any more by then."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from perennial.continual.learning.card import drop_card

__all__ = ["SumsWriter"]


class _Saved(Protocol):
    def save(self, path: Path) -> Any:
        """Write them to a file."""
        ...


class SumsWriter:
    """Writes sums to one path, begun as early as they are known.

    >>> import tempfile
    >>> class Nothing:
    ...     def save(self, path: Path) -> None:
    ...         path.write_text("0")
    >>> path, sums = Path(tempfile.mkdtemp()) / "out" / "sums", Nothing()
    >>> with SumsWriter(path) as writer:
    ...     writer.begin(sums)
    ...     writer.finish(sums)
    >>> path.read_text()
    '0'
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sums")
        self._begun: tuple[_Saved, Future[Any]] | None = None

    def begin(self, sums: _Saved) -> None:
        """Write these beside what the caller does next, who changes them no more."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        drop_card(self._path.parent)  # an older result there must not vouch for half of a new one
        self._begun = sums, self._pool.submit(sums.save, self._path)

    def finish(self, sums: _Saved) -> None:
        """Return when these are on the disk; where others were begun, they take their place.

        Raises:
            OSError: the disk refuses.
        """
        begun, self._begun = self._begun, None
        if begun is not None:
            begun[1].result()
        if begun is None or begun[0] is not sums:
            sums.save(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=True)
