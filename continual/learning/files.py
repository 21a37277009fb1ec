"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["written_whole"]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; when the block ends well its content takes the place of `path`, flushed to disk.

    After a kill the old file is still there; a left-over temporary file is overwritten by the next try.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    yield temporary
    temporary.chmod(_usual_mode())  # safetensors 0.8 makes private files, whatever the umask says
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _usual_mode() -> int:
    """The permissions that a new file gets, read without a moment in which another thread has another umask."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("Umask:"):
            return 0o666 & ~int(line.split()[1], 8)
    return 0o600
