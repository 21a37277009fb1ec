"""Whether an SQLite ledger still is the file that was opened: SQLite itself goes on writing into a deleted one."""

import os
from dataclasses import dataclass
from pathlib import Path

from perennial.continual.errors import DependencyUnreachable

__all__ = ["LedgerFile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFile:
    """A database file, known by its device and inode."""

    path: Path
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "LedgerFile":
        """Return the file that lies there now."""
        status = path.stat()
        return cls(path=path, device=status.st_dev, inode=status.st_ino)

    def check(self, *, open_here: bool) -> None:
        """Return when the file is in its place; costs some microseconds.

        With `open_here`, a connection of this process has it open: then its write-ahead log must be there too.

        Raises:
            DependencyUnreachable: it was deleted, emptied or replaced; what is written now would be lost.
        """
        try:
            status = self.path.stat()
            if (status.st_dev, status.st_ino) != (self.device, self.inode):
                wrong = "was replaced by another file"
            elif status.st_size == 0:
                wrong = "was emptied"
            elif open_here and not os.path.exists(f"{self.path}-wal"):  # noqa: PTH110
                wrong = f"lost its write-ahead log {self.path.name}-wal"
            else:
                return
        except FileNotFoundError:
            wrong = "was deleted"
        except OSError as exc:
            raise DependencyUnreachable(
                f"ledger {self.path} cannot be looked at ({exc.strerror}); see to its disk"
            ) from exc
        raise DependencyUnreachable(
            f"ledger {self.path} {wrong} while it was open, so nothing is read or written any more; stop `perennial "
            f"serve`, put the file back (or run `perennial ledger rebuild`), and start it again"
        )
