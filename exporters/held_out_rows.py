"""Held-out rows of a file, as the tasks write them."""

import json
from pathlib import Path
from typing import Any

from perennial.continual.errors import DataError

__all__ = ["read_held_out_rows"]


def read_held_out_rows(path: Path, *, holds: str, give: str) -> list[dict[str, Any]]:
    """JSON objects, in a list or one a line; `holds` and `give` say in an error what was looked for.

    Raises:
        DataError: the file cannot be read so.
    """
    try:
        content = path.read_text(encoding="utf-8")
        try:
            raw = json.loads(content)
        except ValueError:
            raw = [json.loads(line) for line in content.splitlines() if line.strip()]
        return [dict(row) for row in (raw if isinstance(raw, list) else [raw])]
    except (OSError, ValueError, TypeError) as exc:
        raise DataError(f"{path} holds no {holds}: {type(exc).__name__} {exc}; give {give}") from exc
