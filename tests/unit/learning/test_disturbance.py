"""Token embeddings disturbed in training: as far as is asked, against the loss, and taken back to the bit."""

from types import SimpleNamespace
from typing import Any

import pytest

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.disturbance import Disturbed

pytestmark = pytest.mark.slow  # it loads torch


def network(*, frozen: bool = False) -> Any:
    import torch

    torch.manual_seed(0)
    table = torch.nn.Embedding(5, 4)
    table.weight.requires_grad_(not frozen)
    return SimpleNamespace(encoder=SimpleNamespace(get_input_embeddings=lambda: table)), table


def loss(table: Any) -> Any:
    import torch

    return table(torch.tensor([[1, 2, 3]])).pow(2).sum()


def test_a_step_against_the_model_makes_the_loss_larger_and_is_taken_back() -> None:
    import torch

    whole, table = network()
    before, start = loss(table), table.weight.detach().clone()
    before.backward()
    with Disturbed(whole, adversary=0.5).against() as disturbed:
        assert disturbed
        assert (table.weight - start).norm().item() == pytest.approx(0.5, rel=1e-5)
        assert loss(table).item() > before.item()
    assert torch.equal(table.weight, start)
    with Disturbed(whole).against() as disturbed:
        assert not disturbed


def test_noise_is_as_long_as_is_asked_and_ends_with_the_step() -> None:
    import torch

    whole, table = network()
    ids = torch.tensor([[1, 2, 3]])
    plain = table(ids)
    with Disturbed(whole, noise=5.0).noise():
        moved = table(ids) - plain
    most = 5.0 / (3 * 4) ** 0.5
    assert 0.5 * most < moved.abs().max().item() <= most
    assert torch.equal(table(ids), plain)


def test_a_frozen_table_and_a_negative_length_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="which is frozen"):
        Disturbed(network(frozen=True)[0], adversary=0.5)
    with pytest.raises(ConfigurationError, match="must be 0 or more"):
        Disturbed(network()[0], noise=-1.0)
