"""Files and folders that appear whole or not at all, whatever kills the process that writes them."""

import hashlib
import os
import platform
import re
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from perennial.continual.errors import PerennialError

__all__ = [
    "drop_leftovers",
    "folder_written_whole",
    "put_in_place",
    "share_file",
    "sync",
    "write_atomically",
    "written_whole",
]

_ABANDONED_S = 86_400.0  # since it was written last
_OF_THE_SYSTEM = re.compile(r"\(os error (\d+)\)")  # how errors of libraries in Rust end


def write_atomically(path: Path, content: bytes | str, *, mode: int | None = None, durable: bool = True) -> None:
    """Replace a file so that a reader sees the old content or the new one; see `written_whole`."""
    with written_whole(path, mode=mode, durable=durable) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def written_whole(path: Path, *, mode: int | None = None, durable: bool = True) -> Iterator[Path]:
    """A temporary file beside `path`; when the block ends well its content takes the place of `path`.

    Where the block fails, or the process is killed, the old file stays. Each thread writes a file of its own, so that
    of two writers one wins whole. What a killed one left is removed by the next writer of the same path. A full disk is
    an OSError, whichever library met it.

    Args:
        path: the file; its folder is made where it is missing.
        mode: its permission bits, from the first byte on; by default what the umask gives to any new file.
        durable: flush file and folder, so that the new content outlives a power cut, some milliseconds later.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    drop_leftovers(path)
    temporary = _beside(path)
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
    usual = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    try:
        with _system_errors(path):
            yield temporary
        temporary.chmod(usual if mode is None else mode)  # safetensors 0.8 makes private files, whatever the umask says
        put_in_place(temporary, path, durable=durable)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`; when the block ends well it takes the place of `folder`.

    Where the block fails the old folder stays. A process that is killed between the two steps of the change, removal
    and renaming, leaves none: whoever needs the folder makes it again.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    drop_leftovers(folder)
    temporary = _beside(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with _system_errors(folder):
            yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    """What libraries in Rust say of a full disk, and of whatever else the system refused, as the OSError that it is."""
    try:
        yield
    except (OSError, PerennialError):
        raise
    except Exception as error:
        if (found := _OF_THE_SYSTEM.search(str(error))) is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def put_in_place(temporary: Path, path: Path, *, durable: bool = True) -> None:
    """Let a written file take the place of another on the same file system, by default also after a power cut."""
    if durable:
        sync(temporary)
    temporary.replace(path)
    if durable:
        sync(path.parent)


def share_file(source: Path, target: Path) -> None:
    """Give a finished file a second name, or a copy where the file system has no such names.

    Finished files are replaced and never written to, so that neither name's content changes with the other's.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def drop_leftovers(path: Path) -> None:
    """Remove what dead writers of `path` left beside it, those of earlier releases included.

    Whether a writer of another machine or container lives cannot be seen from here: what it left goes a day later.
    """
    if not path.parent.is_dir():
        return
    left = re.compile(rf"\.{re.escape(path.name)}\.(?:tmp|(?:([0-9a-f]{{8}})-)?(\d+)(?:\.tmp)?)")
    for beside in path.parent.iterdir():
        if (match := left.fullmatch(beside.name)) and not _may_be_written(beside, *match.groups()):
            shutil.rmtree(beside, ignore_errors=True) if beside.is_dir() else beside.unlink(missing_ok=True)


def _may_be_written(temporary: Path, where: str | None, thread: str | None) -> bool:
    if thread is None:
        return False
    if where in {None, _here()}:
        return Path("/proc", thread).exists()
    try:
        return time.time() - temporary.stat().st_mtime < _ABANDONED_S
    except FileNotFoundError:
        return False


def _beside(path: Path) -> Path:
    """Where this thread, and no other that is alive, writes what shall become `path`."""
    return path.with_name(f".{path.name}.{_here()}-{threading.get_native_id()}.tmp")


@cache
def _here() -> str:
    """Names those processes that see each other under `/proc`."""
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        namespace = 0
    return hashlib.blake2b(f"{platform.node()}/{namespace}".encode(), digest_size=4).hexdigest()
