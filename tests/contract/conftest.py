"""A ledger with two models and a clock of its own for each test, on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.ops.ledger import Ledger
from tests.component.databases import BACKENDS, fresh_url
from tests.contract.clock import Clock


@pytest.fixture
def clock() -> Clock:
    """The ledger's time."""
    return Clock()


@pytest.fixture(params=BACKENDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    """A fresh ledger."""
    with Ledger.open(fresh_url(request.param, tmp_path), clock=clock) as opened:
        for model in ("intent", "other"):
            opened.register_model(model, {})
        yield opened
