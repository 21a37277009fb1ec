"""Examples in docstrings of `ops`, `exporters` and the client hold; pytest itself runs those of `continual`."""

import doctest
import importlib

import pytest

from tests.unit.test_structure import FILES


def _has_examples(name: str) -> bool:
    return not name.startswith("perennial.continual") and ">>> " in FILES[name].read_text(encoding="utf-8")


_SHOWN = [name for name in FILES if _has_examples(name)]


@pytest.mark.parametrize("name", _SHOWN)
def test_the_examples_of_a_module_hold(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
