"""Differential privacy of sums: Gaussian noise, as much as a row can change them, and what several exchanges cost.

Neighbours are two sets of rows of which one has a row more, of the same classes: these are told. The noise is drawn in
float64 and rounded to the multiples of the exchange. It is not hardened against somebody who measures the rounding of
floating-point numbers.
"""

import math
import os
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.ridge import Ridge
from perennial.continual.learning.sums import NamedSums, mirror_lower

__all__ = [
    "Normal",
    "Privacy",
    "SystemNoise",
    "clipped",
    "delta_of",
    "epsilon_of",
    "longest_row",
    "noised",
    "normal_of",
    "outer_noise",
    "sound",
]

_OUTER, _SUMS, _COUNTS = 0.5, 0.49, 0.01  # shares of the budget: means matter as much as the scatter, counts little
_LEAST_NOISE, _MOST_NOISE = 1e-3, 1e4
_STEPS = 200  # of a bisection
_FLOOR = 0.3  # of the noise's own spread: what every direction weighs beside what the sums say of it
_SQUARE = 2.0  # of a row of cosines sqrt(2 / D) cos(..): no row is longer, most have length 1
_ROUNDING = 1e-6
_UNIT = 1.0 + 2.0**-8  # an embedding of length 1, kept as float16 or bfloat16, is no longer
_WORD, _DIGITS = 64, 52  # bits: of a random number, and of a uniform one, exact with half a step more and so never 1
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """What an exchange may tell of a single row.

    Raises:
        ConfigurationError: epsilon is not positive, or delta not in (0, 1).

    >>> round(Privacy(epsilon=1.0, delta=1e-5).multiplier, 3)
    3.731
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not (0 < self.epsilon < math.inf and 0 < self.delta < 1):
            raise ConfigurationError(
                f"epsilon {self.epsilon} must be positive and delta {self.delta} in (0, 1), e.g. 8 and 1e-5; delta "
                "lies well below one over the number of rows"
            )

    @property
    def multiplier(self) -> float:
        """The noise's standard deviation over what one row changes: the least that keeps the promise.

        Source: Balle and Wang 2018, "Improving the Gaussian Mechanism for Differential Privacy", theorem 8.

        Raises:
            ConfigurationError: no noise that is tried keeps it.
        """
        low, high = _LEAST_NOISE, _MOST_NOISE
        for _ in range(_STEPS):
            middle = math.sqrt(low * high)
            if delta_of(self.epsilon, 1.0 / middle) > self.delta:
                low = middle
            else:
                high = middle
        if delta_of(self.epsilon, 1.0 / high) > self.delta:
            raise ConfigurationError(
                f"epsilon {self.epsilon:g} at delta {self.delta:g} needs noise of more than {_MOST_NOISE:g} times what "
                "a row changes, which leaves nothing to learn; set a larger epsilon, e.g. 8"
            )
        return high

    def share(self, tellings: int) -> float:
        """The epsilon of each of so many tellings of the same rows, which together tell what this allows.

        >>> round(Privacy(epsilon=8.0, delta=1e-5).share(3), 2)
        4.18
        """
        return epsilon_of(1.0 / (self.multiplier * math.sqrt(tellings)), self.delta)


class Normal(Protocol):
    """Where noise comes from."""

    def standard_normal(self, size: tuple[int, ...], /) -> Floats:
        """The next numbers."""
        ...


class SystemNoise:
    """Normal numbers out of what the system calls random enough for keys: nobody can foretell or repeat them.

    >>> SystemNoise().standard_normal((2, 1)).shape
    (2, 1)
    """

    def standard_normal(self, size: tuple[int, ...]) -> Floats:
        """The next ones."""
        return normal_of(os.urandom(8 * math.prod(size))).reshape(size)


def normal_of(content: bytes) -> Floats:
    """The normal numbers, (n,), that 8 n random bytes stand for."""
    from scipy.special import ndtri

    words: NDArray[np.uint64] = np.frombuffer(content, dtype="<u8")
    normal: Floats = ndtri(((words >> np.uint64(_WORD - _DIGITS)) + 0.5) * 2.0**-_DIGITS)
    return normal


def clipped(X: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The rows, (n, d), none of them longer than 1 and the rounding of few bits: those that are, are shortened.

    >>> clipped(np.array([[3.0, 4.0], [0.6, 0.8]])).round(2).tolist()
    [[0.6, 0.8], [0.6, 0.8]]
    """
    lengths = np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True)
    return X if lengths.max(initial=0.0) <= _UNIT else np.where(lengths > _UNIT, X / lengths, X).astype(X.dtype)


def delta_of(epsilon: float, mu: float) -> float:
    """The delta at which Gaussian noise of 1 / mu times the change keeps epsilon.

    >>> round(delta_of(1.0, 1.0), 6)
    0.126937
    """
    from scipy.special import log_ndtr

    first = float(log_ndtr(mu / 2.0 - epsilon / mu))
    second = epsilon + float(log_ndtr(-mu / 2.0 - epsilon / mu))
    return max(0.0, math.exp(first) - math.exp(min(second, first)))


def epsilon_of(mu: float, delta: float) -> float:
    """The epsilon that Gaussian noise keeps at a delta. Of several exchanges, mu is the root of the sum of squares.

    Source: Dong, Roth and Su 2022, "Gaussian Differential Privacy", corollaries 1 and 2.

    >>> round(epsilon_of(1 / Privacy(epsilon=2.0, delta=1e-5).multiplier, 1e-5), 6)
    2.0
    """
    if not mu:
        return 0.0
    low, high = 0.0, 1.0
    while delta_of(high, mu) > delta:
        high *= 2.0
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if delta_of(middle, mu) > delta else (low, middle)
    return high


def longest_row(sums: AnchoredSums) -> float:
    """No row's features are longer than this, whatever its text; embeddings are of length 1, as every encoder's are."""
    square = _longest_square(sums.features)
    if isinstance(sums, Ridge):
        square = sums.lexical.sketches * (square + 1.0)  # words and letters have length 1 in all sketches together
    return math.sqrt(square)


def noised(named: NamedSums, longest: float, multiplier: float, rng: Normal) -> NamedSums:
    """A copy of sums by class with noise, so that a row more or less is hidden as `multiplier` promises.

    A row changes the count of its class by 1, its sum by at most `longest`, and the outer products, of which those off
    the diagonal are given once, by at most the square of it over the root of 2. Each part has a share of the budget.

    Args:
        named: "counts", "sums" and "outer", and no more: everything that is given away needs noise of its own.
        longest: see `longest_row`.
        multiplier: see `Privacy`.
        rng: which nobody else can foretell; see `SystemNoise`, and `SecretNoise` of an exchange.
    """
    copy = named.copy()
    arrays = copy.arrays
    arrays["counts"] += rng.standard_normal(arrays["counts"].shape) * multiplier / math.sqrt(_COUNTS)
    arrays["sums"] += rng.standard_normal(arrays["sums"].shape) * multiplier * longest / math.sqrt(_SUMS)
    spread = outer_noise(longest, multiplier)
    size = arrays["outer"].shape[-1]
    for square in arrays["outer"].reshape(-1, size, size):
        noise = np.tril(rng.standard_normal((size, size))) * spread
        noise.flat[:: size + 1] *= math.sqrt(2.0)  # so that a row on an axis is hidden as well as any other
        mirror_lower(noise)
        np.add(square, noise, out=square)
    return copy


def outer_noise(longest: float, multiplier: float) -> float:
    """The standard deviation of the noise on outer products off the diagonal."""
    return multiplier * longest**2 / math.sqrt(2.0 * _OUTER)


def sound(named: NamedSums, spread: float) -> NamedSums:
    """Sums with noise made into sums that rows could have: no count below 1, no negative scatter within classes.

    Classes that are mostly noise are left out. What is done here sees the noised sums alone, so it costs no privacy.

    Args:
        named: "counts", "sums" and "outer"; they are used up.
        spread: of the noise on outer products.
    """
    counts = named.arrays["counts"]
    labels = named.entries("class")
    named.keep("class", [label for label, count in zip(labels, counts, strict=True) if count >= 1.0])
    counts, sums = np.rint(named.arrays["counts"]), named.arrays["sums"]
    size, parts = named.arrays["outer"].shape[-1], named.arrays["outer"].size // named.arrays["outer"].shape[-1] ** 2
    squares = named.arrays["outer"].reshape(parts, size, size)
    for part, square in enumerate(squares):
        own = sums[:, part * size : (part + 1) * size]
        between = (own / counts[:, None]).T @ own
        values, vectors = np.linalg.eigh(square - between)
        values = _without_noise(values, spread) + _FLOOR * spread * math.sqrt(size)
        square[:] = (vectors * values) @ vectors.T + between
        mirror_lower(square)
    named.arrays["counts"][:] = counts
    return named


def _without_noise(values: Floats, spread: float) -> Floats:
    """The scatter along each eigenvector, as far as it stands out of the noise; the others share what is left.

    Noise alone has eigenvalues up to 2 spread sqrt(n), and lifts greater ones.
    Source: Benaych-Georges and Nadakuditi 2011, "The eigenvalues and eigenvectors of finite, low rank perturbations".
    """
    edge = 2.0 * spread * math.sqrt(len(values))
    clear = values > edge
    found = np.where(clear, (values + np.sqrt(np.maximum(values**2 - edge**2, 0.0))) / 2.0, 0.0)
    left = max(0.0, float(values.sum() - found.sum())) / max(1, int((~clear).sum()))
    whole: Floats = np.maximum(found, left)
    return whole


def _longest_square(features: FourierFeatures) -> float:
    """A sine is no farther from 0 than its angle, so that the directions bound a row; a cosine has no such bound."""
    if np.allclose(features.phase, np.float32(-math.pi / 2), atol=_ROUNDING):
        directions = _UNIT * float(np.linalg.norm(features.omega.astype(np.float64), 2))
        return min(_SQUARE, 2.0 / features.size * directions**2) * (1.0 + _ROUNDING)
    return _SQUARE
