"""What finished parts of a long run gave, so that one that was cut off goes on where it was."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import write_atomically

__all__ = ["KeptParts"]

_ROOT = Path(__file__).parent.parent


class KeptParts:
    """A folder with one JSON file a part, named by all that the part depends on: what was asked, data and code.

    `sources` are patterns of the code's files, from the project's root.
    """

    def __init__(self, folder: Path, *data: Path, sources: Sequence[str]) -> None:
        self._folder = folder
        code = sorted(path for pattern in sources for path in _ROOT.glob(pattern))
        self._about = hashlib.sha256(b"\0".join(path.read_bytes() for path in (*code, *data))).hexdigest()

    def part(self, name: str, asked: Mapping[str, Any], made: Callable[[], Any]) -> Any:
        """The part as JSON gives it back; made, where no earlier run has left it."""
        key = hashlib.sha256(json.dumps([self._about, asked], sort_keys=True).encode()).hexdigest()[:16]
        path = self._folder / f"{name}-{key}.json"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(made()))
        return json.loads(path.read_text(encoding="utf-8"))

    def folder(self, name: str) -> Path:
        """A folder that belongs to these data and this code; whoever needs it no more removes it."""
        path = self._folder / f"{name}-{self._about[:16]}"
        path.mkdir(parents=True, exist_ok=True)
        return path
