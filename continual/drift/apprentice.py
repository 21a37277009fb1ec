"""What learning would buy: a small head learns each label as it comes, and is asked about the next ones beforehand.

It starts from the champion's logged answers and learns where they are wrong. So it answers as the champion does until
labels speak, and the difference of both scores is what learning these labels is worth, before anything is trained.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from perennial.continual.apprentice import LoggedAnswers
from perennial.continual.errors import DataError

__all__ = ["ClassApprentice"]

_RIDGE = 0.05  # of embeddings of length 1
_TRUST = 0.6  # of the champion's confidence; one that does not know a class is often sure of another
_BLOCK = 16  # labels between two solutions at the least
_MOST_CLASSES = 1_000  # told apart; the memory and time of a solution grow with them
_GROWTH = 1.05  # and this times as many labels, so that a long stream costs few of them


class ClassApprentice:
    """A ridge regression on embeddings that corrects a champion's answers, which are classes.

    It is asked and taught row by row, and solved anew after each block. The blocks depend on the number of rows alone,
    so that the same rows in the same order give the same answers however they are cut into calls. It keeps sums: its
    memory is (d, d) and (d, classes), whatever comes. Classes beyond the first 1,000 stay the champion's: it does not
    learn them.

    >>> rows = LoggedAnswers(embeddings=np.tile(np.eye(2, dtype=np.float32), (40, 1)), answers=["a", "a"] * 40)
    >>> answers = ClassApprentice().follow(rows, ["a", "b"] * 40)
    >>> answers[:2], answers[-2:]
    (['a', 'a'], ['a', 'b'])
    """

    def __init__(self) -> None:
        self.rows = 0
        self._solve_at = _BLOCK
        self._classes: dict[str, int] = {}
        self._outer: NDArray[np.float64] | None = None  # (d + 1, d + 1)
        self._sums = np.zeros((0, 0))  # (d + 1, classes)
        self._weights = np.zeros((0, 0))  # (d + 1, classes that were known when it was solved)

    def follow(self, asked: LoggedAnswers, targets: Sequence[str]) -> list[str]:
        """Its answer to each row, given before it learns the row's target."""
        if len(targets) != len(asked):
            raise DataError(f"{len(asked)} logged answers came with {len(targets)} targets; give one for each")
        features = _features(asked.embeddings)
        sure = np.ones(len(asked)) if asked.confidences is None else np.nan_to_num(asked.confidences, nan=1.0)
        trust = _TRUST * sure
        answers: list[str] = []
        start = 0
        while start < len(asked):
            part = slice(start, min(len(asked), start + self._solve_at - self.rows))
            answers += self._answers(features[part], asked.answers[part], trust[part])
            self._learn(features[part], asked.answers[part], trust[part], targets[part])
            start = part.stop
        return answers

    def _answers(self, features: NDArray[np.float64], said: Sequence[str], trust: NDArray[np.float64]) -> list[str]:
        known = self._weights.shape[1]
        if known == 0:
            return list(said)
        scores = features @ self._weights
        names = list(self._classes)[:known]
        answers = []
        for row, (answer, sure) in enumerate(zip(said, trust.tolist(), strict=True)):
            place = self._classes.get(answer, known)
            own = sure
            if place < known:
                own += scores[row, place]
                scores[row, place] = -np.inf
            best = int(scores[row].argmax())
            answers.append(names[best] if scores[row, best] > own else answer)
        return answers

    def _learn(
        self,
        features: NDArray[np.float64],
        said: Sequence[str],
        trust: NDArray[np.float64],
        targets: Sequence[str],
    ) -> None:
        for name in (*targets, *said):
            if len(self._classes) < _MOST_CLASSES:
                self._classes.setdefault(name, len(self._classes))
        size = features.shape[1]
        if self._outer is None:
            self._outer, self._sums = _RIDGE * np.eye(size), np.zeros((size, 0))
        missed = np.zeros((len(features), len(self._classes)))
        for row, (target, answer) in enumerate(zip(targets, said, strict=True)):
            if target in self._classes:
                missed[row, self._classes[target]] = 1.0
            if answer in self._classes:
                missed[row, self._classes[answer]] -= trust[row]
        self._outer += features.T @ features
        grown = np.zeros((size, len(self._classes)))
        grown[:, : self._sums.shape[1]] = self._sums
        self._sums = grown + features.T @ missed
        self.rows += len(features)
        if self.rows >= self._solve_at:
            self._weights = np.linalg.solve(self._outer, self._sums)
            self._solve_at = max(self.rows + _BLOCK, int(self.rows * _GROWTH))


def _features(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """Embeddings of length 1, and a constant beside them."""
    rows = embeddings.astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.hstack([rows, np.full((len(rows), 1), 0.1)])
