"""What a log does with a file that cannot be read: it is kept, out of the way, with a note that says why."""

import json
import logging
import re
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import DataError, DependencyUnreachable

__all__ = ["QUARANTINE", "DamagedFile", "Quarantined", "copy_aside", "examined", "quarantined", "set_aside"]

logger = logging.getLogger(__name__)
QUARANTINE = "quarantine"
_NOTE = ".why.json"
_WRONG = (pa.ArrowException, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error)
_ASKED = re.compile(r"of size (\d+) failed")
_NOT_MEANT_BYTES = 2**36  # of memory asked for by one read: no honest file of ours holds so much


class DamagedFile(DataError):
    """A file of the log that no further try would read."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"{path} is damaged: {cause}; it goes to the quarantine folder beside it")
        self.path, self.cause = path, cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A file that was set aside. `copied`: it was readable up to the damage, and those rows stay in the log."""

    name: str
    source: str
    cause: str
    at: str
    size_bytes: int
    copied: bool = False


@contextmanager
def examined(path: Path) -> Iterator[None]:
    """Tell a damaged file from one that cannot be read just now.

    Raises:
        FileNotFoundError: it was replaced or removed.
        DependencyUnreachable: rights, the disk, descriptors or memory kept it from being read; it may be whole.
        DamagedFile: its bytes make no sense.
    """
    try:
        yield
    except (FileNotFoundError, DataError):
        raise
    except MemoryError as exc:
        match = _ASKED.search(str(exc))
        if match is not None and int(match[1]) > _NOT_MEANT_BYTES:
            raise DamagedFile(path, str(exc)) from exc
        raise DependencyUnreachable(f"{path} cannot be read now: {exc or 'out of memory'}; it is tried again") from exc
    except OSError as exc:
        if exc.errno is None:  # Arrow's own: what it decompresses or decodes makes no sense
            raise DamagedFile(path, str(exc)) from exc
        raise DependencyUnreachable(f"{path} cannot be read now: {exc}; see to its disk and its rights") from exc
    except _WRONG as exc:
        raise DamagedFile(path, f"{type(exc).__name__}: {exc}") from exc


def set_aside(root: Path, path: Path, cause: str) -> None:
    """Move a file, or a folder that is none of ours, into the quarantine; one that is gone meanwhile is left alone."""
    target = _free(root, path)
    try:
        size = path.stat().st_size
        path.rename(target)
    except FileNotFoundError:
        return
    _note(target, path, cause, size, copied=False)


def copy_aside(root: Path, path: Path, cause: str) -> None:
    """Keep a copy of a file whose readable rows stay in the log; a second call does nothing until its size changes.

    Raises:
        OSError: it cannot be copied, as on a full disk; nothing is kept then.
    """
    target = root / QUARANTINE / f"{path.stem}.damaged{path.suffix}"
    if target.exists():
        if target.stat().st_size == path.stat().st_size:
            return
        target = _free(root, target)  # a file that was mended once is damaged again
    with written_whole(target) as partial:
        shutil.copyfile(path, partial)
    _note(target, path, cause, target.stat().st_size, copied=True)


def quarantined(root: Path) -> tuple[Quarantined, ...]:
    """Return what lies in the quarantine, oldest first; files without a readable note are among it."""
    folder = root / QUARANTINE
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.endswith(_NOTE))
        return tuple(sorted(map(_read_note, paths), key=lambda file: file.at))
    except FileNotFoundError:
        return ()


def _read_note(path: Path) -> Quarantined:
    try:
        return Quarantined(**json.loads(path.with_name(path.name + _NOTE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        status = path.stat()
        at = datetime.fromtimestamp(status.st_mtime, UTC).isoformat()
        return Quarantined(name=path.name, source="", cause="not noted", at=at, size_bytes=status.st_size)


def _free(root: Path, path: Path) -> Path:
    folder = root / QUARANTINE
    folder.mkdir(exist_ok=True)
    target, number = folder / path.name, 0
    while target.exists():
        number += 1
        target = folder / f"{path.stem}.{number}{path.suffix}"
    return target


def _note(target: Path, source: Path, cause: str, size: int, *, copied: bool) -> None:
    note = Quarantined(
        name=target.name,
        source=f"{source.parent.name}/{source.name}",
        cause=cause[:1_000],
        at=datetime.now(UTC).isoformat(),
        size_bytes=size,
        copied=copied,
    )
    logger.error("traffic.quarantined", extra={"path": str(target), "source": note.source, "cause": note.cause})
    target.with_name(target.name + _NOTE).write_text(json.dumps(asdict(note)), encoding="utf-8")
