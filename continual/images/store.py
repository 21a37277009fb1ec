"""The pictures of one model's rows: a file each, under its name. Rows and logs hold names alone."""

import os
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from perennial.continual.atomic_file import drop_leftovers, write_atomically
from perennial.continual.errors import DataError
from perennial.continual.images.picture import Picture, image_file, image_name, is_image_name, name_of_file

__all__ = ["ImageStore"]

_FOLDER = 2  # letters that name a folder: 256 folders in all
_FOLDERS = "[a-p]" * _FOLDER


class ImageStore:
    """Keeps pictures by name. Safe to share between threads and processes: a file appears whole, and never changes.

    >>> import tempfile
    >>> store = ImageStore(Path(tempfile.mkdtemp()))
    >>> store.put(Picture(content=b"a file")), store.put(Picture(content=b"a file")), len(store.names())
    (True, False, 1)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, picture: Picture) -> bool:
        """Keep a picture; returns whether it was written. One that is whole there already is young again.

        A power cut may take what was written in the last seconds. Whoever sends or imports it again mends that.

        Raises:
            OSError: the disk refuses.
        """
        path = self._path(picture.name)
        if _made_young(path, len(picture.content)):
            return False
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, picture.content, durable=False)
        return True

    def get(self, name: str) -> Picture | None:
        """The picture of a name; None where it is not kept, or its file is not what it was.

        Raises:
            DataError: the text is no name of a picture.
        """
        try:
            content = self._path(name).read_bytes()
        except OSError:
            return None
        return Picture(content=content) if image_name(content) == name else None

    def holds(self, name: str) -> bool:
        """Whether the picture of a name is there, and whole."""
        return is_image_name(name) and self.get(name) is not None

    def forget(self, names: Iterable[str]) -> int:
        """Delete pictures, and what killed writers left of them; returns how many were there."""
        gone = 0
        for name in filter(is_image_name, names):
            drop_leftovers(self._path(name))
            gone += self._unlinked(name)
        return gone

    def keep_only(self, named: Collection[str], *, older_than_s: float) -> int:
        """Delete what no row names any more; returns how many. What is younger may belong to a row on its way.

        How old a picture is counts in the moment in which it goes: it may have come again meanwhile.
        """
        end = time.time() - older_than_s
        for left in self.folder.glob(f"{_FOLDERS}/.*"):  # by a writer that was killed
            if _modified(left) < end:
                left.unlink(missing_ok=True)
        left_over = (name for name in self.names() if name not in named)
        return sum(self._unlinked(name) for name in left_over if _modified(self._path(name)) < end)

    def names(self) -> frozenset[str]:
        """Of all that are kept."""
        return frozenset(self._all())

    def _unlinked(self, name: str) -> bool:
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            return False
        return True

    def _all(self) -> Iterator[str]:
        for path in self.folder.glob(f"{_FOLDERS}/*"):
            if is_image_name(name := name_of_file(path.name)):
                yield name

    def _path(self, name: str) -> Path:
        if not is_image_name(name):  # a name becomes part of a path
            raise DataError(f"{name[:60]!r} is no name of an image; names are made of an image's content")
        file = image_file(name)
        return self.folder / file[:_FOLDER] / file


def _made_young(path: Path, size: int) -> bool:
    """Whether a file of this size is there; its age begins anew, so that no sweep takes it from a row on its way."""
    try:
        if path.stat().st_size != size:
            return False
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:  # another account's file, which is there all the same
        return path.is_file()
    return True


def _modified(path: Path) -> float:
    try:
        return os.stat(path).st_mtime  # noqa: PTH116  a glob of many thousands
    except FileNotFoundError:
        return float("inf")
