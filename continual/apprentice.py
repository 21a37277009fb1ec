"""Who learns beside a champion, label by label: what it answers better is what learning would buy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError

__all__ = ["Apprentice", "LoggedAnswers"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoggedAnswers:
    """Answered requests as the traffic log has them; all of one length.

    `embeddings` have shape (n, d). `answers` are kept answers of the task; `confidences` is None where it has none.
    """

    embeddings: NDArray[np.float32]
    answers: Sequence[str]
    confidences: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.answers):
            raise DataError(
                f"{len(self.answers)} logged answers came with embeddings of shape {self.embeddings.shape}; give one "
                "row for each answer"
            )

    def __len__(self) -> int:
        return len(self.answers)


class Apprentice(Protocol):
    """Learns targets beside a champion, without a training: what it answers better is what learning would buy.

    The same rows in the same order give the same answers, however they are cut into calls. Its memory is bounded.
    """

    def follow(self, asked: LoggedAnswers, targets: Sequence[str]) -> list[str]:
        """Its answer to each row, as the log keeps answers, given before it learns the row's target."""
        ...
