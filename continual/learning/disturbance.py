"""Token embeddings disturbed while a network trains: against it, along its gradient, or by chance."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from perennial.continual.errors import ConfigurationError

__all__ = ["Disturbed"]


class Disturbed:
    """What a training does to the token embeddings of a network in each step, and takes back.

    Sources: Miyato, Dai and Goodfellow, "Adversarial training methods for semi-supervised text classification", 2017
    (here of the table, one step along its gradient); Jain et al., "NEFTune", 2023.

    Raises:
        ConfigurationError: the token table is frozen, so it has no gradient to follow.

    >>> Disturbed(None).adversary
    0.0
    """

    def __init__(self, network: Any, *, adversary: float = 0.0, noise: float = 0.0) -> None:
        if adversary < 0.0 or noise < 0.0:
            raise ConfigurationError(f"adversary {adversary} and embedding_noise {noise} must be 0 or more")
        self.adversary, self._noise = adversary, noise
        self._table: Any = network.encoder.get_input_embeddings() if adversary or noise else None
        if adversary and self._table is not None and not self._table.weight.requires_grad:
            raise ConfigurationError(
                "adversary follows the gradient of the token table, which is frozen; use frozen_layers = 0 and no LoRA"
            )

    @contextmanager
    def noise(self) -> Iterator[None]:
        """Add uniform noise to what the table gives, of length `noise` by the root of tokens times width."""
        if not self._noise:
            yield
            return
        import torch

        def add(_: Any, __: Any, output: Any) -> Any:
            most = self._noise / (output.shape[1] * output.shape[2]) ** 0.5
            return output + torch.empty_like(output).uniform_(-most, most)

        hook = self._table.register_forward_hook(add)
        try:
            yield
        finally:
            hook.remove()

    @contextmanager
    def against(self) -> Iterator[bool]:
        """Move the table along its gradient by `adversary` in all, and back; false where that is not asked for."""
        import torch

        gradient = None if not self.adversary else self._table.weight.grad
        length = None if gradient is None else gradient.norm()
        if gradient is None or length is None or not torch.isfinite(length) or float(length) == 0.0:
            yield False
            return
        kept = self._table.weight.detach().clone()
        with torch.no_grad():
            self._table.weight.add_(gradient * (self.adversary / length))
        try:
            yield True
        finally:
            with torch.no_grad():
                self._table.weight.copy_(kept)
