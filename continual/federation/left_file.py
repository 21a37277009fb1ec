"""Files that other sites have left in a shared folder."""

import os
import stat
from pathlib import Path

from perennial.continual.errors import DataError

__all__ = ["read_left"]

_MOST_BYTES = 8 * 2**20  # tens of thousands of class names


def read_left(path: Path) -> bytes:
    """The content of a small file, which is never read through a link, from a pipe, or without end.

    Raises:
        FileNotFoundError: there is none.
        DataError: it is no plain file, too large, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            plain = stat.S_ISREG(os.fstat(descriptor).st_mode)
            content = _read(descriptor) if plain else b""
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); let its site write a plain file") from error
    if not plain or len(content) > _MOST_BYTES:
        raise DataError(f"{path} is no plain file of at most {_MOST_BYTES} bytes; begin a new round without its site")
    return content


def _read(descriptor: int) -> bytes:
    pieces, left = list[bytes](), _MOST_BYTES + 1
    while left and (piece := os.read(descriptor, left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)
