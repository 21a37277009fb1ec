"""Elastic weight consolidation: weights that mattered for old rows are held back."""

from collections.abc import Iterator
from typing import Any, ClassVar

from perennial.continual.learning.strategies.port import Batch, cross_entropy

__all__ = ["ElasticWeights"]


class ElasticWeights:
    """Cross-entropy on fresh rows plus weight / 2 * sum F (theta - theta_before)^2 over the encoder's weights.

    F is the diagonal of the empirical Fisher information, from the squared gradients of replay rows before training.
    The head is left free: its classes grow.

    Source: Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks".

    >>> ElasticWeights(weight=10.0).weight
    10.0
    """

    name: ClassVar[str] = "ewc"
    wants_replay: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    def __init__(self, *, weight: float = 1000.0) -> None:
        self.weight = weight
        self._held: list[tuple[Any, Any, Any]] = []  # weight, its Fisher information, its value before

    def begin(self, network: Any, replay: Iterator[Batch]) -> None:
        """Measures which weights the replay rows' likelihood depends on."""
        import torch

        held = [weight for weight in network.encoder.parameters() if weight.requires_grad]
        fisher = [torch.zeros_like(weight) for weight in held]
        rows = 0
        network.eval()
        for batch in replay:
            for row in range(len(batch.truth)):
                one = Batch(ids=batch.ids[[row]], mask=batch.mask[[row]], truth=batch.truth[[row]], teacher=None)
                gradients = torch.autograd.grad(cross_entropy(network, one, None)[0], held, allow_unused=True)
                for place, gradient in enumerate(gradients):
                    if gradient is not None:
                        fisher[place] += gradient**2
                rows += 1
        before = [weight.detach().clone() for weight in held]
        self._held = [(w, f / max(rows, 1), b) for w, f, b in zip(held, fisher, before, strict=True)]

    def loss(self, network: Any, fresh: Batch, replay: Batch | None, weights: Any) -> Any:
        """Cross-entropy of the fresh batch, and the pull back to the weights before."""
        del replay
        loss = cross_entropy(network, fresh, weights)[0]
        pull = sum((fisher * (weight - before) ** 2).sum() for weight, fisher, before in self._held)
        return loss + 0.5 * self.weight * pull
