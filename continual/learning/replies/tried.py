"""What became of pairs that weights had not seen."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from perennial.continual.arrays import softmax
from perennial.continual.learning.replies.features import Floats
from perennial.continual.learning.replies.matcher import scored

__all__ = ["Tried"]

Doubles = NDArray[np.float64]
Places = NDArray[np.intp]


class Tried:
    """What became of pairs that the weights had not seen, by situation: `cold`, and `warm` where there are any."""

    def __init__(self) -> None:
        self._places: dict[str, list[Places]] = {}
        self._sure: dict[str, list[tuple[Doubles, NDArray[np.bool_]]]] = {}

    def add(self, name: str, features: Floats, weights: Floats, truth: Places) -> None:
        """Rank some pairs of a situation."""
        if not len(truth):
            return
        scores, rows = scored(features, weights), np.arange(len(truth))
        places = (scores > scores[rows, truth][:, None]).sum(axis=1)
        self._places.setdefault(name, []).append(places)
        best = scores.argmax(axis=1)
        self._sure.setdefault(name, []).append((softmax(scores.astype(np.float64))[rows, best], best == truth))

    def places(self, name: str) -> Places:
        """How many replies came before the right one, a pair each."""
        return np.concatenate(self._places.get(name, [np.zeros(0, dtype=np.intp)]))

    def sure(self, name: str) -> tuple[Doubles, NDArray[np.bool_]]:
        """The share of the best reply among all, and whether it was right, each pair of a situation once."""
        nothing = (np.zeros(0), np.zeros(0, dtype=np.bool_))
        sure, hits = zip(*self._sure.get(name, [nothing]), strict=True)
        return np.concatenate(sure), np.concatenate(hits)

    def recalls(self) -> dict[str, float]:
        """The share of pairs whose reply was among the first, by situation."""
        names = list(self._places)
        return {f"{name}_recall_{k}": float((self.places(name) < k).mean()) for name in names for k in (1, 3, 10)}

    def link(self) -> tuple[float, float]:
        """Slope and shift by which the log odds of the best share become those of being right.

        Source: Platt, "Probabilistic outputs for support vector machines", 1999.
        """
        from scipy.optimize import minimize  # 27 MB, which whoever only reads a matcher need not have

        best, hits = map(np.concatenate, zip(*map(self.sure, self._sure), strict=True))
        best = np.clip(best, 1e-6, 1 - 1e-6)
        X = np.stack([np.log(best / (1 - best)), np.ones(len(best))], axis=1)
        start = np.array([0.5, 0.0])

        def loss(w: Doubles) -> tuple[float, Doubles]:
            odds = X @ w
            value = np.logaddexp(0.0, odds).sum() - odds[hits].sum() + ((w - start) ** 2).sum() / 2
            return float(value), X.T @ (expit(odds) - hits) + (w - start)

        slope, shift = minimize(loss, start, jac=True, method="L-BFGS-B").x
        return float(max(slope, 1e-3)), float(shift)
