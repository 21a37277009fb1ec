"""A town for each test, on a real ledger and a real traffic log."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perennial.ops.ledger import Ledger
from tests.component.databases import fresh_url
from tests.component.town import Town


@pytest.fixture
def make_town(tmp_path: Path) -> Iterator[Callable[..., Town]]:
    """Return a maker of towns; one a test."""
    towns: list[Town] = []

    def make(**given: Any) -> Town:
        towns.append(Town(folder=tmp_path, ledger=Ledger.open(fresh_url("sqlite", tmp_path)), **given))
        return towns[-1]

    yield make
    for town in towns:
        town.close()
        town.ledger.close()


@pytest.fixture
def town(make_town: Callable[..., Town]) -> Town:
    """Return a town with the usual settings."""
    return make_town()
