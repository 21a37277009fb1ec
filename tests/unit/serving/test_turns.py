"""Servers that are asked by turns: which of their failures speaks of the version, and which of the server alone."""

import numpy as np
import pytest

from perennial.continual.errors import DependencyUnreachable, NotFound
from perennial.exporters.engine import Inputs, Outputs
from perennial.ops.serving.turns import ServersInTurn

ASKED = {"input_ids": np.ones((1, 2), dtype=np.int64)}


class Server:
    """Holds the version, holds nothing yet, hangs, or is away."""

    def __init__(self, url: str, state: str) -> None:
        self.url, self.state, self.calls = url, state, 0

    def infer_engine(self, model: str, version: int, inputs: Inputs) -> Outputs:
        self.calls += 1
        if self.state == "empty":
            raise NotFound(f"{self.url} holds no version {version} of {model}")
        if self.state in {"hangs", "away"}:
            raise DependencyUnreachable(f"{self.url} does not answer")
        return inputs

    def live(self, timeout_s: float) -> bool:
        return self.state != "away"


def servers(*states: str) -> tuple[ServersInTurn, list[Server]]:
    made = [Server(f"server{number}", state) for number, state in enumerate(states)]
    return ServersInTurn(made), made  # type: ignore[arg-type]


@pytest.mark.parametrize("other", ["empty", "away"])
def test_a_server_that_came_back_empty_or_is_away_does_not_speak_against_the_version(other: str) -> None:
    turns, made = servers("holds", other)
    for _ in range(6):
        assert turns.infer_engine("m_engine", 2, ASKED) is ASKED
    assert made[0].calls == 6


def test_a_version_that_no_server_holds_is_told_as_such() -> None:
    turns, _ = servers("empty", "empty")
    with pytest.raises(NotFound, match="holds no version 2"):
        turns.infer_engine("m_engine", 2, ASKED)


def test_a_server_that_is_there_and_hangs_speaks_against_the_version() -> None:
    turns, _ = servers("hangs", "holds")
    with pytest.raises(DependencyUnreachable, match="server0 does not answer"):
        turns.infer_engine("m_engine", 2, ASKED)
