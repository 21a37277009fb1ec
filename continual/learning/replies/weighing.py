"""Weights of what speaks for a reply, learnt of pairs beside others that stand for all replies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perennial.continual.arrays import softmax
from perennial.continual.learning.replies.features import FEATURES, Floats
from perennial.continual.learning.replies.matcher import UNLEARNT, Matcher, scored

__all__ = ["Rivals", "fitted_weights"]

Doubles = NDArray[np.float64]
_LEARNT = tuple(name for name in FEATURES if name not in UNLEARNT)
_COLUMNS = [FEATURES.index(name) for name in _LEARNT]
_SEARCH = np.array(  # by which the best others are found
    [
        weight or 10.0 * (name == "answer_mapped")
        for name, weight in zip(FEATURES, Matcher().weights.tolist(), strict=True)
    ],
    dtype=np.float32,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rivals:
    """The right reply of each pair, first, and others that stand for all of them."""

    features: Floats  # (pairs, rivals, features)
    stand_for: Floats  # (pairs, rivals), the log of how many replies each stands for

    @classmethod
    def of(cls, features: Floats, truth: NDArray[np.intp], most: int, rng: np.random.Generator) -> "Rivals":
        """The best others by the usual weights, and some drawn of the rest, which stand for the whole rest.

        Of the best alone one would learn that what makes a reply one of the best speaks against it.
        Source: Bengio and Senecal 2008, "Adaptive Importance Sampling to Accelerate Training".
        """
        rows, replies, _ = features.shape
        scores = scored(features, _SEARCH)
        each = np.arange(rows)
        scores[each, truth] = np.inf
        best = min(1 + most // 2, replies)
        order = np.argsort(-scores, axis=1)
        rest = order[:, best:]
        drawn = min(most - most // 2, rest.shape[1])
        others = np.take_along_axis(rest, rng.random(rest.shape).argsort(axis=1)[:, :drawn], axis=1)
        places = np.concatenate([order[:, :best], others], axis=1)
        stand_for = np.zeros(places.shape, dtype=np.float32)
        if drawn:
            stand_for[:, best:] = np.log(rest.shape[1] / drawn)
        return cls(features=features[each[:, None], places], stand_for=stand_for)

    @classmethod
    def joined(cls, parts: Sequence["Rivals"]) -> "Rivals":
        """Those of all parts."""
        return cls(
            features=np.concatenate([part.features for part in parts]),
            stand_for=np.concatenate([part.stand_for for part in parts]),
        )

    def at(self, rows: NDArray[np.bool_]) -> "Rivals":
        """Those of some pairs."""
        return Rivals(features=self.features[rows], stand_for=self.stand_for[rows])


def fitted_weights(rivals: Rivals, penalty: float) -> Floats:
    """Weights under which the right reply is the likeliest of its rivals: a conditional logit.

    `penalty` draws them to the usual ones.
    """
    from scipy.optimize import minimize  # 27 MB, which whoever only reads a matcher need not have

    X, offset = rivals.features[:, :, _COLUMNS].astype(np.float64), rivals.stand_for.astype(np.float64)
    learnt = Matcher().weights.copy()
    start = learnt[_COLUMNS].astype(np.float64)

    def loss(w: Doubles) -> tuple[float, Doubles]:
        likely = softmax(X @ w + offset)
        slope = (np.matmul(likely[:, None, :], X)[:, 0] - X[:, 0]).mean(axis=0) + penalty * (w - start)
        value = -np.log(np.maximum(likely[:, 0], 1e-300)).mean() + penalty / 2 * ((w - start) ** 2).sum()
        return float(value), slope

    learnt[_COLUMNS] = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return learnt
