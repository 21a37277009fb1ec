"""The pages are easy to read: no sentence of over 25 words, and no line over 120 characters.

A sentence ends with a full stop, a question mark or an exclamation mark. A colon ends none. A semicolon may join two
sentences; a second one in the same sentence would be a list in disguise, and is refused. Code blocks, tables, headings
and the targets of links are not prose. A run of names in code counts as one word.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_documents import PAGES, ROOT

MOST_WORDS = 25
MOST_CHARACTERS = 120

_FENCE = re.compile(r"^ *```")
_ITEM = re.compile(r"^ *(?:[-*+]|\d+\.) +")
_NOT_PROSE = re.compile(r"^ *(?:#|\||<|!\[|\[[^\]]+\]: )")
_NAMES = re.compile(r"`[^`]*`(?:(?:,| and| or|, and|, or|\|| \|)? ?`[^`]*`)*")
_TARGET = re.compile(r"\]\([^)]*\)")
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|cf|vs)\.")
_END = re.compile(r"(?<=[.!?])[)\]\"'*_]*\s+(?=[(\[\"'*_]*[A-Z0-9])|(?<=[。！？])")


def blocks(text: str) -> Iterator[str]:
    """Paragraphs and items of lists, each on one line."""
    held: list[str] = []
    fenced = indented = False
    after_blank = True
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        blank = not line.strip()
        # Four spaces after an empty line are code, unless they go on with an item of a list.
        indented = line.startswith("    ") and (indented or (after_blank and not _ITEM.match(line)))
        ends = blank or fenced or indented or _FENCE.match(line) or _NOT_PROSE.match(line) or _ITEM.match(line)
        if ends and held:
            yield " ".join(held)
            held = []
        if not (blank or fenced or indented or _FENCE.match(line) or _NOT_PROSE.match(line)):
            held.append(_ITEM.sub("", line).strip())
        after_blank = blank or line.startswith("#")
    if held:
        yield " ".join(held)


def sentences(text: str) -> Iterator[str]:
    for block in blocks(text):
        plain = _ABBREVIATION.sub(r"\1", _TARGET.sub("]", _NAMES.sub("Name", block)))
        for sentence in _END.split(plain):
            parts = sentence.split("; ")
            yield from parts if len(parts) <= 2 else [sentence]


def words(sentence: str) -> int:
    return sum(any(sign.isalnum() for sign in word) for word in sentence.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_sentence_has_more_than_25_words(page: Path) -> None:
    found = [(words(one), one) for one in sentences(page.read_text(encoding="utf-8"))]
    long = [f"{count} words: {one}" for count, one in found if count > MOST_WORDS]
    assert not long, "\n".join([f"{page.relative_to(ROOT)}: split these, each part with a subject and a verb", *long])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_line_has_more_than_120_characters(page: Path) -> None:
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
    tables = ("|", "    ")
    long = [number for number, line in lines if len(line) > MOST_CHARACTERS and not line.startswith(tables)]
    assert not long, f"{page.relative_to(ROOT)}: wrap the lines {long} at {MOST_CHARACTERS} characters"


def test_a_colon_or_a_second_semicolon_ends_no_sentence() -> None:
    long = "It says: " + "word " * 23 + "ends. The next one starts here."
    assert [words(one) for one in sentences(long)] == [26, 5]
    assert [words(one) for one in sentences("It runs; it stops.")] == [2, 2]
    assert [words(one) for one in sentences("It runs; it stops; it ends.")] == [6]


def test_code_tables_and_targets_are_no_prose() -> None:
    code = "    indented\n\n```\nfenced\n```\n"
    page = f"# A title\n\nOne `a b`, `c` and [two](x y z).\n\n| a | b |\n\n{code}- An item.\n"
    assert list(sentences(page)) == ["One Name and [two].", "An item."]
