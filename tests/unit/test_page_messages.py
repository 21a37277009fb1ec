"""The messages that the page of troubleshooting explains are the program's own."""

import ast
import re
from functools import cache

import pytest

from tests.unit.test_documents import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
_HEADING = re.compile(r"^### (`+)(.+)\1$", flags=re.MULTILINE)
_GAP = "…"  # what differs from one occasion to the next


def quoted() -> list[str]:
    return [message for _, message in _HEADING.findall(PAGE.read_text(encoding="utf-8"))]


def _parts(node: ast.expr) -> str:
    """A text of the code, with a gap for each value that is put into it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_parts(value) for value in node.values)
    return _GAP


@cache
def written() -> tuple[str, ...]:
    """Every text in the rooms that a message can be made of."""
    files = [file for room in ("continual", "exporters", "ops") for file in (ROOT / room).rglob("*.py")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    nodes = (node for tree in trees for node in ast.walk(tree))
    return tuple({_parts(node) for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr)})


@pytest.mark.parametrize("message", quoted())
def test_every_message_of_the_page_is_the_programs(message: str) -> None:
    parts = [re.escape(part) for part in message.split(_GAP)]
    said = re.compile(".*".join(parts), flags=re.DOTALL)
    assert max(len(part) for part in parts) >= 10, f"{message!r} has no part long enough to be known by"
    assert any(said.search(text) for text in written()), f"nothing says {message!r} any more; correct the page"


def test_the_page_explains_at_least_thirty_messages_once_each() -> None:
    messages = quoted()
    assert len(messages) == len(set(messages)) >= 30
