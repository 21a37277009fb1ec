"""Which files make up the log at one moment.

Rows move one way: live -> sealed -> parquet. The folders are listed in that order, so that a file on the move is seen
at least once, and the journal is read last: it names the files that a finished compaction has replaced. A file that
is gone when it is opened means that the list is old; the reader takes a new one.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from ops.traffic.segment import LIVE, PARQUET, SEALED

__all__ = ["Catalogue", "LogFile", "journal_path", "superseded"]

_ENDLESS_US = 10**18
_LISTINGS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """A file of the log; its rows lie within [`first_us`, `last_us`], which a live stream doesn't state."""

    path: Path
    stem: str
    first_us: int = 0
    last_us: int = _ENDLESS_US

    @property
    def folder(self) -> str:
        """`live`, `sealed` or `parquet`."""
        return self.path.parent.name


def journal_path(root: Path) -> Path:
    """Where the last compaction states its output and what that replaces."""
    return root / "compaction.json"


def superseded(root: Path) -> tuple[str, frozenset[str]]:
    """The last compaction's output and the files it replaces, relative to the root; they count once it exists."""
    try:
        told = json.loads(journal_path(root).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "", frozenset()
    return str(told["output"]), frozenset(told["replaces"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The log's files, each row in exactly one of them."""

    live: tuple[LogFile, ...]
    sealed: tuple[LogFile, ...]
    parquet: tuple[LogFile, ...]

    @property
    def files(self) -> tuple[LogFile, ...]:
        """All of them, oldest kind first."""
        return (*self.parquet, *self.sealed, *self.live)

    @classmethod
    def of(cls, root: Path) -> "Catalogue":
        """List the folders until two listings agree; a list that is still out of date shows when a file is opened."""
        seen = _names(root)
        for _ in range(_LISTINGS):
            before, seen = seen, _names(root)
            if seen == before:
                break
        live, sealed, parquet, output, replaced = seen
        if output.removeprefix(f"{PARQUET}/") not in parquet:
            replaced = frozenset()
        kept = [_timed(root / SEALED / name) for name in sealed if f"{SEALED}/{name}" not in replaced]
        done = {file.stem for file in kept}
        return cls(
            live=tuple(
                LogFile(path=root / LIVE / name, stem=Path(name).stem) for name in live if Path(name).stem not in done
            ),
            sealed=tuple(kept),
            parquet=tuple(_timed(root / PARQUET / name) for name in parquet if f"{PARQUET}/{name}" not in replaced),
        )


def _names(root: Path) -> tuple[list[str], list[str], list[str], str, frozenset[str]]:
    live = _list(root / LIVE, ".arrows")
    sealed = _list(root / SEALED, ".arrows")
    parquet = _list(root / PARQUET, ".parquet")
    return live, sealed, parquet, *superseded(root)


def _list(folder: Path, suffix: str) -> list[str]:
    try:
        return sorted(p.name for p in folder.iterdir() if p.suffix == suffix and not p.name.startswith("."))
    except FileNotFoundError:
        return []


def _timed(path: Path) -> LogFile:
    first, last, stem = path.stem.split("-", 2)
    return LogFile(path=path, stem=stem, first_us=int(first), last_us=int(last))
