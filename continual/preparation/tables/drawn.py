"""Tables that are drawn with lines: Markdown, and what databases and reStructuredText print."""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from perennial.continual.preparation.tables.header import known_in

__all__ = ["drawn_rows", "is_drawn"]

_EDGE = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"[\s|+:=-]*(?:[-=]{2}|:-|-:)[\s|+:=-]*")
_THIN_RULE_CELL = re.compile(r":?-+:?")
_CORNER = re.compile(r"[|+]")
_COUNT = re.compile(r"\(\d+ rows?\)")  # psql's last line
_BETWEEN_NAMES = re.compile(r'[",;\t|]')  # in the header of a delimited file
_SAMPLE_CHARACTERS = 1 << 16
_LOOKED_AT = 20  # lines in which the first rule is looked for


@dataclass(frozen=True, slots=True)
class _Drawing:
    """The header of a table, the lines above it, and whether each row stands between a left and a right edge."""

    header: str = ""
    above: Sequence[str] = ()
    left: bool = True
    right: bool = True


def is_drawn(text: str, known: frozenset[str]) -> bool:
    """Whether the text is such a table: one of its first lines is a rule, and the one above or below holds cells.

    It is none where a line above holds as many `known` names: that is the header, and the table stands in a text.

    >>> names = frozenset(["text", "label"])
    >>> is_drawn("| text | label |\\n|---|---|\\n", names), is_drawn("text|label\\na|b", names)
    (True, False)
    >>> is_drawn('text,label\\n"| a | b |\\n|---|---|",x\\n', names)
    False
    """
    drawing = _drawing(text)
    if drawing is None:
        return False
    names = max((known_in(_BETWEEN_NAMES.split(line), known) for line in drawing.above), default=0)
    return names == 0 or names < known_in(_cells(drawing.header, drawing), known)


def drawn_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    r"""The cells of each row, with its line; rules and the count under a table are none.

    >>> list(drawn_rows("| text | label |\n|---|---|\n| a \\| b | x |"))
    [(1, ['text', 'label']), (3, ['a | b', 'x'])]
    """
    drawing = _drawing(text) or _Drawing()
    before = ""
    for number, line in enumerate(map(str.strip, _lines(text)), start=1):
        is_rule = _is_rule(line) or (before == drawing.header and _is_thin_rule(line, before))
        before = line or before
        if line and not is_rule and not _COUNT.fullmatch(line):
            yield number, _cells(line, drawing)


def _lines(text: str) -> Iterator[str]:
    return iter(io.StringIO(text, newline=None))


def _drawing(text: str) -> _Drawing | None:
    first = islice(_lines(text[:_SAMPLE_CHARACTERS]), _LOOKED_AT)
    lines = [line.strip() for line in first if line.strip()]
    for at, rule in enumerate(lines):
        for place in (at - 1, at + 1):
            header = lines[place] if 0 <= place < len(lines) else ""
            if not _EDGE.search(header) or _is_rule(header):
                continue
            if not _is_rule(rule) and not (place < at and _is_thin_rule(rule, header)):
                continue
            may_differ = "+" not in rule  # Markdown may draw the edges of the header alone
            return _Drawing(
                header=header,
                above=lines[: min(at, place)],
                left=rule[0] in "|+" or (may_differ and header.startswith("|")),
                right=rule[-1] in "|+" or (may_differ and _EDGE.split(header)[-1] == ""),
            )
    return None


def _cells(line: str, drawing: _Drawing) -> list[str]:
    cells = _EDGE.split(line)
    if drawing.left and cells[0] == "":
        cells = cells[1:]
    if drawing.right and len(cells) > 1 and cells[-1] == "":
        cells = cells[:-1]
    return [cell.replace(r"\|", "|").strip() for cell in cells]


def _is_rule(line: str) -> bool:
    return _RULE.fullmatch(line) is not None and _CORNER.search(line) is not None


def _is_thin_rule(line: str, header: str) -> bool:
    """Whether a line under the header is a rule of Markdown that may have but one dash a cell."""
    cells, between = _EDGE.split(line), _Drawing()
    return (
        "" in {cells[0], cells[-1]}
        and len(_cells(line, between)) == len(_cells(header, between))
        and all(_THIN_RULE_CELL.fullmatch(cell) for cell in _cells(line, between))
    )
