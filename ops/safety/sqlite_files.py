"""Reading the file of an SQLite database that this process may have open as one.

A process's locks on a file end when it closes any descriptor of that file. Whoever closes the database next would take
itself for the last one, and delete the write-ahead log that is in use here. So such a descriptor stays open.

Source: https://www.sqlite.org/howtocorrupt.html, section 2.2 (POSIX locks that are cancelled by a close).
"""

import io
import os
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["opened"]

_HEAD = b"SQLite format 3\0"
_kept: dict[tuple[int, int], int] = {}  # descriptors by device and inode
_lock = threading.Lock()


def opened(path: Path) -> IO[bytes]:
    """The file to read from its beginning, as `path.open("rb")` gives it; closing it ends no lock of SQLite's."""
    with _lock:
        status = path.stat()
        number = _kept.get((status.st_dev, status.st_ino))
        if number is None:
            number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if os.pread(number, len(_HEAD), 0) != _HEAD:
                return os.fdopen(number, "rb")
            status = os.fstat(number)
            _kept[status.st_dev, status.st_ino] = number
    return io.BufferedReader(_Kept(number))


class _Kept(io.RawIOBase):
    """A reader with a place of its own, on a descriptor that others use too."""

    def __init__(self, number: int) -> None:
        self._number, self._place = number, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begins = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: os.fstat(self._number).st_size}[whence]
        self._place = begins + offset
        return self._place

    def readinto(self, into: "WriteableBuffer", /) -> int:
        count = os.preadv(self._number, [into], self._place)
        self._place += count
        return count
