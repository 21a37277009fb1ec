"""What is kept of the embedded server: which process it is, and the secret of its start."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from perennial.continual.atomic_file import write_atomically
from perennial.ops.serving.processes import environment_of, start_ticks
from perennial.ops.serving.secret import VARIABLE

__all__ = ["FILE", "KeptRecord", "KeptSecret", "Secret", "ServerRecord"]

FILE = "server.json"
Secret = Callable[[], str]  # asked anew at each call: a restart makes another


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """One start of the server. Its process id and start time name one process for ever."""

    pid: int
    ticks: int
    fingerprint: str
    secret: str = field(repr=False)
    http_port: int = 0  # of this start, on the loopback; 0 where it has none
    metrics_port: int = 0

    @classmethod
    def read(cls, path: Path) -> "ServerRecord | None":
        """What `keep` wrote; None where nothing is, or nothing that can be read."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                pid=int(content["pid"]),
                ticks=int(content["ticks"]),
                fingerprint=str(content["fingerprint"]),
                secret=str(content["secret"]),
                http_port=int(content["http_port"]),
                metrics_port=int(content["metrics_port"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @classmethod
    def of_process(cls, pid: int, fingerprint: str) -> "ServerRecord":
        """The record of a server that was found by its command line: its environment tells its owner the secret."""
        return cls(
            pid=pid,
            ticks=start_ticks(pid) or 0,
            fingerprint=fingerprint,
            secret=environment_of(pid).get(VARIABLE, ""),
            http_port=_argument(pid, "--http-port"),
            metrics_port=_argument(pid, "--metrics-port"),
        )

    def keep(self, path: Path) -> None:
        """Write it to a file that its owner alone may read."""
        path.with_suffix(".tmp").unlink(missing_ok=True)  # with an older secret, of an earlier release that was killed
        write_atomically(path, json.dumps(asdict(self)), mode=0o600, durable=False)


class KeptRecord:
    """What a server's record holds now; None while there is none. May be asked by many threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[tuple[int, int], ServerRecord | None] = ((0, 0), None)

    def __call__(self) -> ServerRecord | None:
        """Costs one look at the file's date while nothing changed."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        mark = (found.st_ino, found.st_mtime_ns)
        if self._seen[0] != mark:
            self._seen = (mark, ServerRecord.read(self._path))
        return self._seen[1]


class KeptSecret:
    """The secret that a server's record holds now; empty while there is none."""

    def __init__(self, path: Path) -> None:
        self._record = KeptRecord(path)

    def __call__(self) -> str:
        """Costs one look at the file's date while nothing changed."""
        record = self._record()
        return "" if record is None else record.secret


def _argument(pid: int, option: str) -> int:
    """The number that a process was given for an option; 0 where it was given none."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    except OSError:
        return 0
    values = [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
    return int(values[0]) if values and values[0].isdigit() else 0
