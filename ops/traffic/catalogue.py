"""Which files make up the log at one moment.

Rows move one way: live -> sealed -> parquet. The folders are listed in that order, so that a file on the move is seen
at least once, and the journal is read last: it names the files that a finished compaction has replaced. A file that
is gone when it is opened means that the list is old; the reader takes a new one.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from perennial.ops.traffic.quarantine import DamagedFile, examined
from perennial.ops.traffic.segment import LIVE, PARQUET, SEALED

__all__ = ["Catalogue", "LogFile", "journal_path", "strangers", "superseded"]

_ENDLESS_US = 10**18
_LISTINGS = 50
_NAME = re.compile(r"(\d{1,18})-(\d{1,18})-(.+)")
_MEMBER = re.compile(r"(?:live|sealed|parquet)/[^/]+")


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
    """The last compaction's output and the files it replaces, relative to the root; they count once it exists.

    Raises:
        DamagedFile: the journal makes no sense.
    """
    path = journal_path(root)
    try:
        with examined(path):
            journal = json.loads(path.read_text(encoding="utf-8"))
            names = [journal["output"], *journal["replaces"]]
            if not all(isinstance(name, str) and _MEMBER.fullmatch(name) for name in names):
                raise DamagedFile(path, "it names what is no file of the log")
    except FileNotFoundError:
        return "", frozenset()
    return str(journal["output"]), frozenset(journal["replaces"])


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
        kept = _timed(root, SEALED, sealed, replaced)
        done_parquet = _timed(root, PARQUET, parquet, replaced)
        done = {file.stem for file in kept}
        return cls(
            live=tuple(
                LogFile(path=root / LIVE / name, stem=Path(name).stem) for name in live if Path(name).stem not in done
            ),
            sealed=tuple(kept),
            parquet=tuple(done_parquet),
        )


def _names(root: Path) -> tuple[list[str], list[str], list[str], str, frozenset[str]]:
    live = _list(root / LIVE, ".arrows")
    sealed = _list(root / SEALED, ".arrows")
    parquet = _list(root / PARQUET, ".parquet")
    try:
        return live, sealed, parquet, *superseded(root)
    except DamagedFile:  # the next compaction sets it aside
        return live, sealed, parquet, "", frozenset()


def _list(folder: Path, suffix: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.name.endswith(suffix) and e.name[0] != "." and not e.is_dir())
    except FileNotFoundError:
        return []


def _timed(root: Path, folder: str, names: Iterable[str], replaced: frozenset[str]) -> list[LogFile]:
    """The files of these names that count; names that are none of ours are left out."""
    files = []
    for name in names:
        parts = _NAME.fullmatch(Path(name).stem)
        if parts is not None and f"{folder}/{name}" not in replaced:
            path = root / folder / name
            files.append(LogFile(path=path, stem=parts[3], first_us=int(parts[1]), last_us=int(parts[2])))
    return files


def strangers(root: Path) -> tuple[Path, ...]:
    """What lies in the log's folders and is not named like its files."""
    paths = []
    for folder, suffix in ((LIVE, ".arrows"), (SEALED, ".arrows"), (PARQUET, ".parquet")):
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    name = Path(entry.name)
                    fits = (
                        name.suffix == suffix and not entry.is_dir() and (folder == LIVE or _NAME.fullmatch(name.stem))
                    )
                    if not fits and not entry.name.startswith("."):
                        paths.append(root / folder / entry.name)
        except FileNotFoundError:
            continue
    return tuple(sorted(paths))
