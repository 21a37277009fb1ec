"""What words and letters alone say of a text's class: sums that know no encoder, so that tuning one leaves them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual.learning.calibration import fit_temperature, log_loss, places_of
from perennial.continual.learning.card import read_card
from perennial.continual.learning.class_sums import ClassRows, ClassSums
from perennial.continual.learning.lexical import LexicalFeatures
from perennial.continual.learning.network_head import NetworkHead
from perennial.continual.learning.normal_equations import Penalty, Regression, together
from perennial.continual.learning.ridge import Ridge
from perennial.continual.learning.trained import STATISTICS_FILE
from perennial.continual.preparation import row_hash
from perennial.continual.records import Example

__all__ = ["WordSums", "fused"]

_SHRINKAGES = (0.1, 0.3, 1.0, 3.0)
_USUAL = (1.0, 2.0)  # shrinkage and share where no row tells
_SHARES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # of the words' scores, which lie about 1 and -1, in logits of the network
_ABSENT = -1.0  # what words say of a class that none of their rows has
Floats = NDArray[np.float64]


class WordSums:
    """The lexical part of a ridge's sums, with the rows that a ridge had learnt already or without.

    >>> sums = WordSums(LexicalFeatures.of_size(64))
    >>> sums.labels
    ()
    """

    def __init__(self, features: LexicalFeatures) -> None:
        self.features = features
        self._sums = ClassSums(features.size, parts=features.sketches)

    @classmethod
    def carried(cls, previous: Path | None) -> Self | None:
        """Those of a model's folder whose sums are a ridge's; None of any other.

        Raises:
            DataError: the folder or its sums cannot be read.
        """
        if previous is None or read_card(previous).head != "ridge" or not (previous / STATISTICS_FILE).is_file():
            return None
        return cls.of_ridge(Ridge.load(previous / STATISTICS_FILE))

    @classmethod
    def of_ridge(cls, ridge: Ridge) -> Self:
        """What a ridge's sums hold of words: every row that is in, though none is stored."""
        found, parts = cls(ridge.lexical), ridge.lexical.sketches
        size, fourier = ridge.lexical.size // parts, ridge.features.size // parts
        arrays, labels = ridge.named.arrays, ridge.named.entries("class")
        of_words = arrays["sums"].reshape(len(labels), parts, fourier + size)[:, :, fourier:]
        outer = arrays["outer"].reshape(parts, fourier + size, fourier + size)[:, fourier:, fourier:]
        found._sums.named.restore(
            {"class": labels},
            {
                "counts": arrays["counts"].copy(),  # the ridge keeps its own
                "sums": of_words.reshape(len(labels), -1).copy(),
                "outer": (outer if parts > 1 else outer[0]).copy(),
            },
        )
        found._sums.known = ridge.known_rows
        return found

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of the rows that are in, sorted."""
        return tuple(sorted(self._sums.labels))

    def add(self, rows: Sequence[Example]) -> int:
        """Learn rows that are not in, move those that have another label, and return how many changed the sums."""
        return self._sums.add(_keyed(rows), self._mapped)

    def remove(self, rows: Sequence[Example]) -> int:
        """Take back those that are in, and return how many left."""
        return self._sums.remove(_keyed(rows), self._mapped)

    def regression(self, shrinkage: float) -> Regression:
        """Scores near 1 for a text's class and near -1 for the others, of its features.

        Raises:
            ValueError: no row is in.
        """
        penalty = Penalty(shrinkage=shrinkage, words=1.0)
        whole = together([part.solved(penalty) for part in self._sums.equations({}, 0, of_encoder=0)])
        return Regression(labels=whole.labels, weight=whole.weight * np.sqrt(self._sums.parts), bias=whole.bias)

    def _mapped(self, rows: ClassRows) -> Floats:
        features: Floats = self.features(rows.texts or [])
        features *= np.sqrt(self.features.sketches)
        return features


def fused(
    head: NetworkHead, words: WordSums, X: NDArray[np.floating[Any]], texts: Sequence[str], truth: NDArray[np.intp]
) -> NetworkHead:
    """The head with the words beside it, their weight and shrinkage by least log loss on rows that neither has learnt.

    Args:
        head: of the network, linear.
        words: the sums.
        X: embeddings of the rows (rows, d).
        texts: of the rows.
        truth: the place of each row's class; without rows the words count a usual share.
    """
    beside = {shrinkage: _placed(words.regression(shrinkage), head.labels) for shrinkage in _SHRINKAGES}
    shrinkage, share = _USUAL
    if len(truth):
        plain, features = head.logits(X, texts), words.features(texts)
        losses = {}
        for each, regression in beside.items():
            scores = regression.scores(features)
            for times in _SHARES:
                whole = plain + times * scores
                losses[each, times] = log_loss(whole, truth, fit_temperature(whole, truth))
        shrinkage, share = min(losses, key=lambda pair: losses[pair])
    chosen = beside[shrinkage]
    return replace(
        head,
        bias=(head.bias + share * chosen.bias).astype(np.float32),
        lexical=(share * chosen.weight).astype(np.float32),
        words=words.features,
    )


def _placed(regression: Regression, labels: Sequence[str]) -> Regression:
    """The regression for these labels, about their mean; a class without rows has the lowest score."""
    weight, bias = np.zeros((len(labels), regression.weight.shape[1])), np.full(len(labels), _ABSENT)
    places = places_of(regression.labels, labels)
    known = places >= 0
    weight[places[known]], bias[places[known]] = regression.weight[known], regression.bias[known]
    return Regression(labels=tuple(labels), weight=weight - weight.mean(axis=0), bias=bias - bias.mean())


def _keyed(rows: Sequence[Example]) -> ClassRows:
    texts = [row.text for row in rows]
    return ClassRows(
        X=np.zeros((len(rows), 0)),
        labels=[row.label for row in rows],
        keys=[row_hash(text) for text in texts],
        texts=texts,
    )
