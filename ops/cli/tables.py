"""A table as it can be read: beside each other where there is room, one below the other where there is not.

No cell is ever cut: the next command may need the id that stands in it.
"""

import os
import re
import sys
from collections.abc import Sequence
from shutil import get_terminal_size

__all__ = ["least_widths", "readable_width", "stacked"]

_NOBODY_LOOKS = 200  # columns, where the output goes into a file or another program
_COMFORT = 24  # columns, into which a text of several words may be folded
_UNBROKEN = re.compile(r"[^\s\u3000-\u9fff\uac00-\ud7af\uff00-\uffef]+|[\u3000-\u9fff\uac00-\ud7af\uff00-\uffef]")
_TOKEN = re.compile(rf"\s*(?:{_UNBROKEN.pattern})")


def readable_width() -> int:
    """Columns there are: of the terminal, or what COLUMNS says; many where nobody looks."""
    if os.environ.get("COLUMNS", "").isdecimal() or sys.stdout.isatty():
        return max(20, get_terminal_size().columns)
    return _NOBODY_LOOKS


def least_widths(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> tuple[int, ...] | None:
    """The least width of each column, in which no word is broken; None where so many columns do not hold them."""
    from rich.cells import cell_len

    least, wanted = [], []
    for place, column in enumerate(columns):
        cells = [column, *(row[place] for row in rows)]
        words = max((cell_len(word) for cell in cells for word in _UNBROKEN.findall(cell)), default=1)
        longest = max(cell_len(line) for cell in cells for line in cell.split("\n"))
        least.append(words)
        wanted.append(max(words, min(longest, _COMFORT)))
    frame = 3 * len(columns) + 1
    return tuple(least) if sum(wanted) + frame <= width else None


def stacked(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Each row as lines of a name and its value, folded between words; a blank line between rows."""
    from rich.cells import cell_len, set_cell_size

    margin = max((cell_len(column) for column in columns), default=0) + 2
    blocks = []
    for row in rows:
        lines = []
        for column, cell in zip(columns, row, strict=True):
            folded = [line for part in cell.split("\n") for line in _folded(part, max(10, width - margin))]
            lines += [
                f"{set_cell_size(column if number == 0 else '', margin)}{line}" for number, line in enumerate(folded)
            ]
        blocks.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(blocks)


def _folded(text: str, width: int) -> list[str]:
    """Lines of at most so many columns; a word that is longer stands on one of its own, unbroken."""
    from rich.cells import cell_len

    lines, line = [], ""
    for token in _TOKEN.findall(text):
        if line and cell_len(line + token) > width:
            lines.append(line)
            line = token.lstrip()
        else:
            line = line + token if line else token.lstrip()
    return [*lines, line]
