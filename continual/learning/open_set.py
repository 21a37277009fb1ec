"""Whether a text is of any class at all: by its highest score and by how far it lies from the nearest class."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.class_sums import PlainSums

__all__ = [
    "FALSE_REFUSALS",
    "OPEN_SET_FILE",
    "NearestMeans",
    "OpenSet",
    "check_false_refusals",
    "fit_open_set",
    "new_class_recall",
]

FALSE_REFUSALS = 0.05
OPEN_SET_FILE = "open-set.safetensors"
_MOST = 0.5
_ENOUGH = 50
_SHRINKAGE = 0.1  # of the mean variance, added to each
_NUMBERS = "numbers"
_WHITENING, _MEANS = "whitening", "means"


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestMeans:
    """Class means of embeddings, whitened by the covariance that the classes share.

    >>> near = NearestMeans(whitening=np.eye(2, dtype=np.float32), means=np.eye(2, dtype=np.float32))
    >>> near.distances(np.array([[1.0, 0.0], [0.0, 3.0]])).tolist()
    [0.0, 4.0]
    """

    whitening: NDArray[np.float32]  # (d, d)
    means: NDArray[np.float32]  # (C, d), whitened

    @classmethod
    def of(cls, sums: PlainSums | None, stand_ins: Mapping[str, NDArray[np.float64]]) -> Self | None:
        """Those of sums; classes with stand-in rows have the mean of these too. None where the sums do not tell."""
        if sums is None or sums.counts.sum() <= len(sums.counts):
            return None
        means = sums.sums / sums.counts[:, None]
        within = (sums.outer - (sums.sums.T @ means)) / sums.counts.sum()
        variance = float(np.trace(within)) / len(within)
        if not variance > 0:
            return None
        values, vectors = np.linalg.eigh(within)
        whitening = vectors / np.sqrt(np.maximum(values, 0.0) + _SHRINKAGE * variance)
        every = np.concatenate([means, *(mean[None] for mean in stand_ins.values())])
        return cls(whitening=whitening.astype(np.float32), means=(every @ whitening).astype(np.float32))

    def distances(self, embeddings: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Squared Mahalanobis distance of each row (rows, d) to the nearest class mean, (rows,)."""
        rows = embeddings.astype(np.float32) @ self.whitening
        beside = np.einsum("cd,cd->c", self.means, self.means) - 2.0 * (rows @ self.means.T)
        distances: NDArray[np.float32] = np.einsum("nd,nd->n", rows, rows) + beside.min(axis=1)
        return distances


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSet:
    """A text is of none of the classes where its highest logit, less its distance to them, is below `limit`.

    The logits are those before a link. Both count in units of their spread over the rows that were held out, `rows`
    of them. `false_refusals` is the share of texts of known classes that may be refused.

    >>> OpenSet(limit=0.5, per_logit=1.0, per_distance=0.0, false_refusals=0.05, rows=60).known(
    ...     np.array([[0.1, 0.9], [0.2, 0.3]]), np.zeros((2, 4))).tolist()
    [True, False]
    """

    limit: float
    per_logit: float
    per_distance: float
    false_refusals: float
    rows: int
    near: NearestMeans | None = None

    def known(self, logits: NDArray[np.floating[Any]], embeddings: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Whether each row's text is of a class that the version knows, (rows,)."""
        known: NDArray[np.bool_] = self.scores(logits, embeddings) >= self.limit
        return known

    def scores(self, logits: NDArray[np.floating[Any]], embeddings: NDArray[np.floating[Any]]) -> NDArray[Any]:
        """How much each row's text is like those of the classes, (rows,)."""
        scores: NDArray[Any] = self.per_logit * logits.max(axis=1)
        return scores if self.near is None else scores - self.per_distance * self.near.distances(embeddings)

    def carried(self, factor: float, near: NearestMeans | None) -> Self | None:
        """The same limit for the next head, whose logits are `factor` times as large; None where it measures less."""
        if (near is None) is not (self.near is None):
            return None
        return replace(self, per_logit=self.per_logit / factor, near=near)

    def write(self, folder: Path) -> None:
        """Write it beside a head."""
        from safetensors.numpy import save_file

        numbers = [self.limit, self.per_logit, self.per_distance, self.false_refusals, float(self.rows)]
        tensors: dict[str, NDArray[Any]] = {_NUMBERS: np.array(numbers)}
        if self.near is not None:
            tensors |= {_WHITENING: self.near.whitening, _MEANS: self.near.means}
        with written_whole(folder / OPEN_SET_FILE) as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """That of a trained folder or a bundle; None where it has none, as those of earlier releases.

        Raises:
            DataError: the file cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = folder / OPEN_SET_FILE
        if not path.is_file():
            return None
        try:
            tensors = load_file(path)
            limit, per_logit, per_distance, false_refusals, rows = tensors[_NUMBERS].tolist()
            near = None
            if _WHITENING in tensors:
                near = NearestMeans(whitening=tensors[_WHITENING], means=tensors[_MEANS])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error!r}); export the version again") from error
        return cls(
            limit=limit,
            per_logit=per_logit,
            per_distance=per_distance,
            false_refusals=false_refusals,
            rows=round(rows),
            near=near,
        )


def fit_open_set(
    logits: NDArray[np.floating[Any]],
    embeddings: NDArray[np.floating[Any]],
    near: NearestMeans | None,
    false_refusals: float = FALSE_REFUSALS,
) -> OpenSet | None:
    """The limit below which at most this share of texts of known classes falls; None of fewer than 50 rows.

    A new text of the known classes that comes like the held-out rows is refused with a probability of at most
    `false_refusals`, whatever the scores are like.

    Args:
        logits: of held-out rows of known classes, before any link, (rows, C).
        embeddings: the same rows', (rows, d).
        near: the classes, made without these rows.
        false_refusals: the share; 0 refuses nothing, and there is no limit.

    Raises:
        ConfigurationError: the share is not in [0, 0.5].

    Source: Vovk et al., "Algorithmic Learning in a Random World", 2005 (split conformal); Lee et al. 2018, "A Simple
    Unified Framework for Detecting Out-of-Distribution Samples" (the distance); Vaze et al. 2022, "Open-Set
    Recognition: a Good Closed-Set Classifier is All You Need?" (the highest logit).

    >>> fitted = fit_open_set(np.arange(99.0)[:, None], np.zeros((99, 1)), None)
    >>> int(fitted.known(np.arange(99.0)[:, None], np.zeros((99, 1))).sum())
    95
    """
    check_false_refusals(false_refusals)
    rows = len(logits)
    below = int(false_refusals * (rows + 1) + 1e-9)  # the first rows in order, of which the last is the limit
    if rows < _ENOUGH or not below:
        return None
    spread = float(logits.max(axis=1).std())
    far = 0.0 if near is None else float(near.distances(embeddings).std())
    fitted = OpenSet(
        limit=0.0,
        per_logit=1.0 / max(spread, 1e-9),
        per_distance=1.0 / max(far, 1e-9) if near is not None else 0.0,
        false_refusals=false_refusals,
        rows=rows,
        near=near,
    )
    return replace(fitted, limit=float(np.sort(fitted.scores(logits, embeddings))[below - 1]))


def new_class_recall(
    near: NearestMeans,
    embeddings: NDArray[np.floating[Any]],
    places: NDArray[np.intp],
    false_refusals: float = FALSE_REFUSALS,
) -> float | None:
    """The share of held-out rows that would be taken for none of the classes, had their own class been missing.

    It is told by the distance alone, at the given share of false refusals; None of fewer than 50 rows.

    Args:
        near: the classes, made without these rows.
        embeddings: of held-out rows, (rows, d).
        places: where each row's class stands among the means.
        false_refusals: the share of known texts that may be refused.
    """
    if len(embeddings) < _ENOUGH or len(near.means) < 2:
        return None
    limit = float(np.quantile(near.distances(embeddings), 1.0 - false_refusals))
    found = 0
    for place in np.unique(places):
        others = replace(near, means=np.delete(near.means, place, axis=0))
        found += int((others.distances(embeddings[places == place]) > limit).sum())
    return found / len(embeddings)


def check_false_refusals(share: Any) -> None:
    """Refuse a share that no limit can keep.

    Raises:
        ConfigurationError: it is not in [0, 0.5].
    """
    if not isinstance(share, int | float) or not 0 <= share <= _MOST:
        raise ConfigurationError(
            f"false_refusals is {share}; it is the share of known texts that may count as of no class: 0 to {_MOST}"
        )
