"""Tables that are drawn with lines: Markdown, and what databases and reStructuredText print."""

import io
import re
from collections.abc import Iterator
from itertools import islice

__all__ = ["drawn_rows", "is_drawn"]

_EDGE = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"[\s|+:=-]*(?:[-=]{2}|:-|-:)[\s|+:=-]*")
_CORNER = re.compile(r"[|+]")
_COUNT = re.compile(r"\(\d+ rows?\)")  # psql's last line
_SAMPLE_CHARACTERS = 1 << 16
_LOOKED_AT = 20  # lines in which the first rule is looked for


def is_drawn(text: str) -> bool:
    """Whether the text is such a table: one of its first lines is a rule, and the one above or below holds cells.

    >>> is_drawn("| text | label |\\n|---|---|\\n"), is_drawn("text|label\\na|b")
    (True, False)
    """
    lines = [line for line in islice(_lines(text[:_SAMPLE_CHARACTERS]), _LOOKED_AT) if line.strip()]
    return any(
        _is_rule(line) and any(_EDGE.search(near) and not _is_rule(near) for near in lines[max(0, at - 1) : at + 2])
        for at, line in enumerate(lines)
    )


def drawn_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    r"""The cells of each row, with its line; rules and the count under a table are none.

    >>> list(drawn_rows("| text | label |\n|---|---|\n| a \\| b | x |"))
    [(1, ['text', 'label']), (3, ['a | b', 'x'])]
    """
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip() or _is_rule(line) or _COUNT.fullmatch(line.strip()):
            continue
        cells = [cell.replace(r"\|", "|").strip() for cell in _EDGE.split(line.strip())]
        if line.lstrip().startswith("|"):
            cells = cells[1:]
        if len(cells) > 1 and _EDGE.search(line.rstrip()[-2:]) and not cells[-1]:
            cells = cells[:-1]
        yield number, cells


def _lines(text: str) -> Iterator[str]:
    return iter(io.StringIO(text, newline=None))


def _is_rule(line: str) -> bool:
    return _RULE.fullmatch(line.strip()) is not None and _CORNER.search(line) is not None
