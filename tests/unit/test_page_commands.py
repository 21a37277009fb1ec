"""Every command that a page shows exists, with its options and its number of arguments.

A page may write alternatives: `perennial rollout show | approve`, or `perennial schedule pause|resume JOB`. What
stands in brackets may be left out, so it is read as if it were given. A name in capitals is any value.
"""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from perennial.ops.cli.main import app
from tests.unit.test_documents import PAGES, ROOT

_CODE = re.compile(r"^(?:    |\$ )? *(perennial .*)$", flags=re.MULTILINE)
_NAMED = re.compile(r"`(perennial [^`]+)`")
_REPEATED = re.compile(r"\.\.\.|\u2026")


def written(text: str) -> Iterator[str]:
    """The commands of a page: lines of its code, and names in its prose."""
    fenced = re.findall(r"^ *```(?:bash|sh|console|text)?\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = [line for line in prose.splitlines() if line.startswith("    ")]
    for line in [*"\n".join(fenced).replace("\\\n", " ").splitlines(), *indented]:
        if found := _CODE.match(line):
            yield from (part.strip() for part in re.sub(r"\s#.*", "", found[1]).split(" ;"))
    yield from (" ".join(name.split()) for name in _NAMED.findall(prose))


def alternatives(command: str) -> Iterator[list[str]]:
    """`a show | approve` and `a pause|resume x`, each as one command."""
    first, *others = command.split(" | ")
    words = shlex.split(_REPEATED.sub("", first).replace("[", " ").replace("]", " "))
    several = [number for number, word in enumerate(words) if re.fullmatch(r"[a-z-]+(\|[a-z-]+)+", word)]
    if several:
        at = several[0]
        for word in words[at].split("|"):
            yield [*words[:at], word, *words[at + 1 :]]
    else:
        yield words
    for other in others:
        yield [*words[:2], *shlex.split(other.replace("[", " ").replace("]", " "))]


@cache
def _program() -> Any:
    return typer.main.get_command(app)


def fault(words: list[str]) -> str:
    """Why the command cannot be given so; nothing where it can."""
    command = _program()
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0].isupper():  # `perennial NOUN VERB` speaks of any command
            return ""
        if rest[0] not in command.commands:
            return f"there is no {rest[0]!r} among {sorted(command.commands)}"
        command, rest = command.commands[rest[0]], rest[1:]
    if hasattr(command, "commands"):  # a noun alone, or an option of the whole
        return ""
    known = {name: option for option in command.params for name in (*option.opts, *option.secondary_opts)}
    positional = [option for option in command.params if option.param_type_name == "argument"]
    given = 0
    while rest:
        word, rest = rest[0].partition("=")[0], rest[1:]
        if not word.startswith("--"):
            given += 1
        elif word == "--help":
            continue
        elif word not in known:
            return f"there is no option {word} among {sorted(name for name in known if name.startswith('--'))}"
        elif not known[word].is_flag and rest:
            rest = rest[1:]
    most = None if any(option.nargs == -1 for option in positional) else len(positional)
    return f"{given} arguments are given, {most} are known" if most is not None and given > most else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_that_a_page_shows_exists(page: Path) -> None:
    shown = [words for command in written(page.read_text(encoding="utf-8")) for words in alternatives(command)]
    faults = {" ".join(words): fault(words) for words in shown}
    assert not {command: why for command, why in faults.items() if why}


def test_a_wrong_command_option_or_argument_is_found() -> None:
    assert "no 'shcedule'" in fault(["perennial", "shcedule", "list"])
    assert "no option --dry" in fault(["perennial", "model", "promote", "3", "--dry"])
    assert "2 arguments" in fault(["perennial", "model", "promote", "3", "4"])
    assert not fault(["perennial", "model", "promote", "3", "--dry-run"])
    assert [*alternatives("perennial schedule pause|resume JOB")][1] == ["perennial", "schedule", "resume", "JOB"]
    assert [*alternatives("perennial model promote 3 | rollback")][1] == ["perennial", "model", "rollback"]
