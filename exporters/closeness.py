"""How far an engine's numbers are from its model's, so that their size decides nothing and what they say does."""

import numpy as np
import numpy.typing as npt

__all__ = ["agreeing", "logit_unit", "shifted"]

Floats = npt.NDArray[np.float32]
_USUAL = 20.0  # logits within this of their row's middle: what limits in logits were set for
_TIED = 1e-4  # of the unit: a lead that arithmetic in another order may turn round


def logit_unit(wanted: Floats) -> float:
    """1 for logits of the usual size, more for larger ones: what a limit in logits is multiplied by.

    >>> logit_unit(np.array([[3.0, -3.0]], np.float32)), logit_unit(np.array([[220.0, -220.0]], np.float32))
    (1.0, 11.0)
    """
    if not wanted.size:
        return 1.0
    middle = wanted - wanted.mean(axis=-1, keepdims=True)
    return max(1.0, float(np.abs(middle).max()) / _USUAL)


def shifted(wanted: Floats, seen: Floats) -> npt.NDArray[np.float64]:
    """The share of probability that has moved to other classes, a row: 0 where the two say the same, 1 at most.

    >>> shifted(np.array([[90.0, 0.0]], np.float32), np.array([[80.0, 0.0]], np.float32)).round(6).tolist()
    [0.0]
    """
    one, other = _probabilities(wanted), _probabilities(seen)
    moved: npt.NDArray[np.float64] = np.abs(one - other).sum(axis=-1) / 2
    return moved


def agreeing(wanted: Floats, seen: Floats) -> npt.NDArray[np.bool_]:
    """Rows whose best class is the same, or leads by so little that the order of the arithmetic decides.

    >>> agreeing(np.array([[1.0, 1.000001], [1.0, 2.0]], np.float32), np.array([[1.0, 0.999999], [2.0, 1.0]])).tolist()
    [True, False]
    """
    rows = np.arange(len(wanted))
    lead = wanted.max(axis=-1) - wanted[rows, seen.argmax(axis=-1)]
    near: npt.NDArray[np.bool_] = lead <= _TIED * logit_unit(wanted)
    return near


def _probabilities(logits: Floats) -> npt.NDArray[np.float64]:
    exact = logits.astype(np.float64)
    powers = np.exp(exact - exact.max(axis=-1, keepdims=True))
    probabilities: npt.NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities
