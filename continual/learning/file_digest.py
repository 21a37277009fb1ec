"""The sha256 of a file, re-read only when its size or its modification time changed."""

import hashlib
from functools import lru_cache
from pathlib import Path

__all__ = ["file_digest"]

_CHUNK = 1 << 20


def file_digest(path: Path) -> str:
    """The sha256 of the file's bytes, as hexadecimal digits."""
    stat = path.stat()
    return _digest(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest(path: str, size: int, modified_ns: int) -> str:
    del size, modified_ns  # they are in the cache's key
    with Path(path).open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
