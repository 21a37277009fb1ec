"""Keys that were erased from a log: rows from before, which a writer may still hold in memory, are never written.

A writer looks under its stream's lock. Whoever erases first writes the note, then takes each stream's lock once; from
then on every row that such a key brings from before its erasure is refused.
"""

import hashlib
import json
import logging
import secrets
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from perennial.continual.atomic_file import write_atomically
from perennial.ops.prediction_ids import id_time_us

__all__ = ["ErasedKeys"]

_Rows = TypeVar("_Rows", pa.RecordBatch, pa.Table)
_NAME = "erased.json"
logger = logging.getLogger(__name__)


class ErasedKeys:
    """The erased keys of one log, read again when the note changed. Keys are kept as salted digests.

    Not safe to share between threads.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / _NAME
        self._read: tuple[int, int] | None = None
        self._salt = ""
        self._since_us: dict[str, int] = {}

    def add(self, key: str, at: datetime) -> None:
        """Refuse the key's rows from before `at`. The caller holds the log's maintenance lock."""
        self._refresh()
        self._salt = self._salt or secrets.token_hex(32)
        digest = self._digest(key)
        self._since_us[digest] = max(int(at.timestamp() * 1e6), self._since_us.get(digest, 0))
        write_atomically(self._path, json.dumps({"salt": self._salt, "erased_us": self._since_us}))

    def without(self, rows: _Rows) -> _Rows:
        """The rows that may be kept; the same object when all may."""
        self._refresh()
        if not self._since_us:
            return rows
        limits = {key: self._since_us.get(self._digest(key)) for key in rows["key"].unique().to_pylist() if key}
        if not any(limits.values()):
            return rows
        kept = [
            (limit := limits.get(key)) is None or min(int(at.value), id_time_us(name) or 0) >= limit
            for key, at, name in zip(
                rows["key"].to_pylist(), rows["at"], rows["prediction_id"].to_pylist(), strict=True
            )
        ]
        return rows if all(kept) else rows.filter(pa.array(kept, pa.bool_()))

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return
        seen = (status.st_ino, status.st_mtime_ns)
        if seen != self._read:
            self._read = seen
            try:
                document = json.loads(self._path.read_text(encoding="utf-8"))
                self._salt, self._since_us = (
                    str(document["salt"]),
                    {k: int(v) for k, v in document["erased_us"].items()},
                )
            except (ValueError, LookupError, TypeError, AttributeError) as exc:  # what is known stays; `add` mends it
                logger.error("traffic.erased_note_damaged", extra={"path": str(self._path), "error": str(exc)})

    def _digest(self, key: str) -> str:
        return hashlib.sha256(f"{self._salt} {key}".encode()).hexdigest()
