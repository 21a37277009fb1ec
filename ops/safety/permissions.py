"""Who may read what lies on the disk: nobody but the user whose process wrote it, unless a setting says otherwise."""

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["PRIVATE", "close_to_others", "give_as"]

logger = logging.getLogger(__name__)
PRIVATE = 0o077  # set as the umask when a command starts; Triton, its stubs and every job inherit it


def give_as(umask: str) -> None:
    """Have what this process writes from now on give what the setting `umask` says, where that is another than ours."""
    if (forbidden := int(umask, 8)) != PRIVATE:
        os.umask(forbidden)


def close_to_others(places: Iterable[Path], umask: int = PRIVATE) -> int:
    """Take from older files and folders what `umask` would not have given them, and tell how many there were.

    Links are not followed, and files of other users are left alone.
    """
    changed = 0
    for place in places:
        for path in _all_below(place):
            with suppress(FileNotFoundError, PermissionError):
                status = path.lstat()
                mode = stat.S_IMODE(status.st_mode)
                if stat.S_ISLNK(status.st_mode) or status.st_uid != os.geteuid() or not mode & umask:
                    continue
                path.chmod(mode & ~umask)
                changed += 1
    if changed:
        logger.warning("permissions.closed", extra={"paths": changed, "umask": f"{umask:03o}"})
    return changed


def _all_below(place: Path) -> Iterator[Path]:
    yield place
    if place.is_symlink() or not place.is_dir():
        return
    for folder, below, files in os.walk(place):  # does not follow links
        for name in (*below, *files):
            yield Path(folder) / name
