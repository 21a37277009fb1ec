"""The mutation runner: which changes it makes, and that each module has tests."""

import ast

import pytest

from benchmarks import mutate_tests
from benchmarks.mutants import mutants, source_of


def _changed(source: str) -> set[str]:
    return {ast.unparse(source_of(mutant, source)) for mutant in mutants("m", source)}


@pytest.mark.parametrize(
    ("source", "some"),
    [
        ("x = a < b", {"x = a <= b", "x = a >= b"}),
        ("x = a and b", {"x = a or b"}),
        ("x = not a", {"x = a"}),
        ("x = 3", {"x = 4", "x = 2"}),
        ("x = True", {"x = False"}),
        ("self.x = a", {"pass"}),
        ("x += 1", {"pass", "x -= 1", "x += 2", "x += 0"}),
        ("if a:\n    raise E('no')", {"pass", "if not a:\n    raise E('no')"}),
        ("def f():\n    return g(a, b)", {"def f():\n    return None", "def f():\n    return g(b, a)"}),
        ("def f():\n    g()", {"def f():\n    pass"}),
        ("x = max(a, b)", {"x = min(a, b)"}),
    ],
)
def test_mutants_are_the_stated_mistakes(source: str, some: set[str]) -> None:
    assert _changed(source) == some


@pytest.mark.parametrize(
    "source",
    [
        '"""Some text."""',
        "__all__ = ['a']",
        "_logger.info('done', extra={'n': 1})",
        "assert x > 0",
        "class P(Protocol):\n    n: int = 1",
        "raise_ = f'{x + 1}'",
        "def f(x: Literal[1]) -> Literal[2]: ...",
    ],
)
def test_messages_types_and_logs_have_no_mutants(source: str) -> None:
    assert _changed(source) == set()


def test_keys_tell_mutants_apart_and_survive_new_lines_above() -> None:
    source = "def f(a):\n    g(1)\n    g(1)\n    return a > 1\n"
    keys = [mutant.key for mutant in mutants("m", source)]
    assert len(set(keys)) == len(keys)
    assert keys == [mutant.key for mutant in mutants("m", f"import os\n\n\n{source}")]


def test_every_module_of_the_map_has_a_source_and_tests() -> None:
    found = mutate_tests.modules()
    assert len(found) == len(set(found)) > 20
    for module in found:
        assert mutate_tests.path_of(module).is_file(), module
        paths = [part.split("::")[0] for part in mutate_tests.tests_of(module) if "/" in part]
        assert {path: (mutate_tests.ROOT / path).exists() for path in paths} == dict.fromkeys(paths, True), module
        assert paths, module
