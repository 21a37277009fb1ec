"""`make bench-neighbours`: requests go to Label Studio's and Argilla's own packages, and come back as labels.

The packages need another numpy than ours, so they are installed into an environment of their own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.serving_rivals import CACHE
from perennial.ops.commands.exchange import Exchange, exported, labelling_config
from perennial.ops.commands.label_file import read_label_file
from perennial.ops.commands.label_queue import QueueItem
from perennial.ops.ledger import ClassDescription, FeedbackRow

_PACKAGES = ("label-studio-sdk==2.1.2", "argilla==2.8.0")
_LABELS = ("card", "loan", 'a "quoted" <&> 类', "with, comma")
_TEXTS = ("my card", "مرحبا", "<b>bold</b> & {{ 7 * 7 }}", 'a "quoted" line\nand another', "😀 " * 200)


class _Known:
    """What the entrance asks of the ledger."""

    def route(self, _: str) -> None:
        return None

    def labels(self, _: str) -> Sequence[str]:
        return _LABELS

    def descriptions(self, _: str) -> Sequence[ClassDescription]:
        return ()


def main() -> None:
    """Try both, and write `benchmarks/out/neighbours.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, help="of an environment that has both packages; else one is made")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    python = options.python or _environment()
    with tempfile.TemporaryDirectory(prefix="bench-neighbours-") as folder:
        results = _tried(Path(folder), python, options.rows)
    for name, value in results.items():
        print(f"{name:<28}{value}")
    print(record.write("neighbours", results, options.out))


def _tried(folder: Path, python: Path, rows: int) -> dict[str, Any]:
    items = [
        QueueItem(
            prediction_id=f"{number:032x}",
            text=f"{_TEXTS[number % len(_TEXTS)]} {number}",
            answered=_LABELS[number % len(_LABELS)],
            confidence=number / rows if number % 7 else None,
            version=3,
            reason="uniform",
            probability=1.0,
        )
        for number in range(1, rows + 1)
    ]
    given = [_LABELS[number * 3 % len(_LABELS)] for number in range(rows)]
    for kind in Exchange:
        rows_out = exported(items, kind, model="intent")
        (folder / f"{kind.value}.json").write_text(json.dumps(rows_out), encoding="utf-8")
    (folder / "interface.xml").write_text(labelling_config(_LABELS), encoding="utf-8")
    (folder / "given.json").write_text(json.dumps(given), encoding="utf-8")
    peer = Path(__file__).with_name("neighbours_peer.py")
    told = subprocess.run([str(python), str(peer), str(folder)], capture_output=True, text=True, check=False)
    if told.returncode:
        sys.exit(told.stderr[-3_000:])
    results: dict[str, Any] = {"rows": rows, **json.loads(told.stdout.splitlines()[-1])}
    for kind in Exchange:
        back = read_label_file(folder / f"{kind.value}-done.json", _Known(), "intent")  # type: ignore[arg-type]
        labels = {row.prediction_id: row.label for row in back.rows if isinstance(row, FeedbackRow)}
        right = sum(labels.get(item.prediction_id) == label for item, label in zip(items, given, strict=True))
        results[f"{kind.value}: came back"] = right
        assert right == rows, f"{kind.value}: {right} of {rows} labels came back to their requests"
    return results


def _environment() -> Path:
    folder = CACHE / "labelling"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *_PACKAGES], check=True)
        done.write_text("\n".join(_PACKAGES), encoding="utf-8")
    return python


if __name__ == "__main__":
    main()
