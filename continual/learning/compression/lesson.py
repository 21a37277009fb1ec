"""What a student is taught in one step: the truth, its teacher's scores, and its teacher's embeddings."""

from collections.abc import Iterator
from typing import Any, ClassVar

from perennial.continual.learning.strategies.port import Batch

__all__ = ["Lesson"]


class Lesson:
    """Cross-entropy, plus the distance of the scores, plus the distance of the embeddings, as a `Strategy`.

    The scores' distance is T^2 KL(teacher || student) at temperature T, the embeddings' 1 - cosine.

    Sources: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015; embeddings as in Reimers
    and Gurevych, "Making monolingual sentence embeddings multilingual using knowledge distillation", 2020.

    >>> Lesson().temperature
    2.0
    """

    name: ClassVar[str] = "lesson"
    wants_replay: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    def __init__(self, *, scores: float = 2.0, embeddings: float = 16.0, temperature: float = 2.0) -> None:
        self.scores, self.embeddings, self.temperature = scores, embeddings, temperature

    def begin(self, network: Any, replay: Iterator[Batch]) -> None:
        """Needs nothing: what the teacher says comes with the batches."""
        del network, replay

    def loss(self, network: Any, fresh: Batch, replay: Batch | None, weights: Any) -> Any:
        """The sum of the three."""
        from torch.nn import functional

        del replay
        X = network.embed(fresh.ids, fresh.mask).float()  # (batch, d)
        logits = network.classify(X).float()
        now = functional.log_softmax(logits / self.temperature, dim=1)
        said = functional.log_softmax(fresh.teacher / self.temperature, dim=1)
        apart = functional.kl_div(now, said, log_target=True, reduction="batchmean")
        away = 1.0 - functional.cosine_similarity(X, fresh.meant, dim=1).mean()
        truth = functional.cross_entropy(logits, fresh.truth, weight=weights)
        return truth + self.scores * self.temperature**2 * apart + self.embeddings * away
