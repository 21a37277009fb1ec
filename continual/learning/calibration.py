"""How sure a head should be: log loss, and the temperature that makes it smallest."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError

__all__ = ["fit_temperature", "log_loss", "log_losses", "places_of"]

_LOWEST, _HIGHEST = 1e-3, 1e3
_STEPS = 60


def places_of(labels: Sequence[str], order: Sequence[str]) -> NDArray[np.intp]:
    """Where each label stands in `order`; -1 for one that is not in it."""
    place = {label: row for row, label in enumerate(order)}
    return np.array([place.get(label, -1) for label in labels], dtype=np.intp)


def log_loss(logits: NDArray[np.float64], truth: NDArray[np.intp], temperature: float = 1.0) -> float:
    """Mean of -log p(truth) in nats; 0 is perfect, log C is a guess among C classes.

    Raises:
        DataError: there are no rows, or a truth is not a column of the logits.

    >>> import numpy as np
    >>> round(log_loss(np.zeros((1, 2)), np.array([0])), 4)
    0.6931
    """
    return float(log_losses(logits, truth, temperature).mean())


def log_losses(logits: NDArray[np.float64], truth: NDArray[np.intp], temperature: float = 1.0) -> NDArray[np.float64]:
    """-log p(truth) of each row in nats, (rows,); see `log_loss`."""
    if not len(logits) or len(logits) != len(truth) or truth.min() < 0 or truth.max() >= logits.shape[1]:
        raise DataError(f"log loss of logits {logits.shape} for {len(truth)} truths; each must be one of the columns")
    scaled = logits / temperature
    highest = scaled.max(axis=1)
    total = np.log(np.exp(scaled - highest[:, None]).sum(axis=1)) + highest
    losses: NDArray[np.float64] = total - scaled[np.arange(len(truth)), truth]
    return losses


def fit_temperature(logits: NDArray[np.float64], truth: NDArray[np.intp]) -> float:
    """The temperature by which to divide the logits so that their log loss is smallest; 1 when there are no rows.

    The loss is convex in 1 / temperature, so a golden-section search finds it.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks".

    >>> import numpy as np
    >>> logits = np.array([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 0.0]])  # right three times in four, and too sure
    >>> round(fit_temperature(logits, np.array([0, 0, 1, 1])), 2) == round(9 / np.log(3), 2)
    True
    """
    if not len(logits):
        return 1.0
    low, high = np.log(1 / _HIGHEST), np.log(1 / _LOWEST)
    ratio = (np.sqrt(5.0) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = (log_loss(logits, truth, 1 / np.exp(place)) for place in (left, right))
    for _ in range(_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = log_loss(logits, truth, 1 / np.exp(left))
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = log_loss(logits, truth, 1 / np.exp(right))
    return float(1 / np.exp((low + high) / 2))
