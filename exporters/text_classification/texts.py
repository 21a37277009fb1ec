"""Held-out and calibration texts out of a file."""

import json
from pathlib import Path
from typing import Any

from perennial.continual.errors import DataError

__all__ = ["read_texts"]


def read_texts(path: Path) -> tuple[list[str], list[str] | None]:
    """Texts and, where the file has them, labels.

    JSON: `{"texts": [...], "labels": [...]}`, a list of `{"text", "label"}`, or one such object a line. Parquet: the
    columns `text` and `label`.

    Raises:
        DataError: the file cannot be read so.
    """
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            columns = pyarrow.parquet.read_table(path).to_pydict()
            texts, labels = (
                columns["text" if "text" in columns else "texts"],
                columns.get("label", columns.get("labels")),
            )
        else:
            texts, labels = _from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, LookupError, TypeError) as exc:
        raise DataError(f"{path} holds no texts: {type(exc).__name__} {exc}; give parquet or JSON with texts") from exc
    if not texts or (labels is not None and len(labels) != len(texts)):
        raise DataError(
            f"{path} has {len(texts)} texts and {len(labels or [])} labels; give at least one, one label each"
        )
    return [str(text) for text in texts], None if labels is None else [str(label) for label in labels]


def _from_json(content: str) -> tuple[list[Any], list[Any] | None]:
    try:
        raw = json.loads(content)
    except ValueError:
        raw = [json.loads(line) for line in content.splitlines() if line.strip()]
    if isinstance(raw, dict) and "texts" in raw:
        return raw["texts"], raw.get("labels")
    rows = [raw] if isinstance(raw, dict) else raw
    return [row["text"] for row in rows], [row["label"] for row in rows] if "label" in rows[0] else None
