"""How sure a head should be: log loss, and the temperature that makes it smallest."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError

__all__ = ["Link", "fit_link", "fit_temperature", "log_loss", "log_losses", "places_of"]

_LOWEST, _HIGHEST = 1e-3, 1e3
_STEPS = 60
_FLOORS = (0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Makes logits of a least-squares head into log probabilities, each for itself; their order stays.

    Least squares to 1 and 0 estimates a probability, `slope` times a logit plus `shift`, which may come out below 0.
    What it is worth is power * log(max(0, it) + floor): a class far behind then counts for next to nothing, where a
    softmax of the logits themselves would give many such classes a share together.

    >>> link = Link(slope=0.1, shift=0.5, floor=0.05, power=2.0)
    >>> link(np.array([[5.0, -5.0]])).round(2).tolist()
    [[0.1, -5.99]]
    """

    slope: float
    shift: float
    floor: float
    power: float

    def __post_init__(self) -> None:
        if not min(self.slope, self.floor, self.power) > 0:
            raise DataError(f"slope, floor and power must be positive, and are {astuple(self)}; train the head again")

    def __call__(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Log probabilities but for a constant of each row, in the type of the logits."""
        estimate = np.maximum(logits * logits.dtype.type(self.slope) + logits.dtype.type(self.shift), 0)
        worth: NDArray[np.floating[Any]] = np.log(estimate + logits.dtype.type(self.floor))
        worth *= logits.dtype.type(self.power)
        return worth

    def as_tensor(self) -> NDArray[np.float64]:
        """What a file holds."""
        return np.array(astuple(self))

    @classmethod
    def of_tensor(cls, tensor: NDArray[Any]) -> Self:
        """What `as_tensor` made."""
        slope, shift, floor, power = (float(value) for value in tensor)
        return cls(slope=slope, shift=shift, floor=floor, power=power)


def fit_link(logits: NDArray[np.float64], truth: NDArray[np.intp], temperature: float) -> Link | None:
    """The link by which a least-squares head loses least; None unless that is clearly less than without one.

    Args:
        logits: targets of 1 and -1, about their mean over the classes, divided by `temperature` (rows, C).
        truth: the place of each row's class.
        temperature: the one that suits them best without a link.
    """
    if not len(logits):
        return None
    slope, shift = temperature / 2.0, 1.0 / logits.shape[1]
    plain = log_losses(logits, truth)
    found = []
    for floor in _FLOORS:
        worth = np.log(np.maximum(logits * slope + shift, 0.0) + floor)
        cooled = fit_temperature(worth, truth)
        found.append((log_losses(worth, truth, cooled), floor, cooled))
    losses, floor, cooled = min(found, key=lambda each: float(each[0].mean()))
    gain = plain - losses
    if not gain.mean() > gain.std() / np.sqrt(len(gain)):
        return None
    return Link(slope=slope, shift=shift, floor=floor, power=1.0 / cooled)


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
