"""What somebody would build in five lines: the commonest class, and word and letter counts with logistic regression."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.learning.metrics import macro_f1
from perennial.continual.quality.simple_answers import majority_answers
from perennial.continual.records import Example

__all__ = ["BaselineFigures", "majority_baseline", "tfidf_baseline"]

_WORD = re.compile(r"(?u)\b\w+\b")
_MOST_ROWS = 20_000  # learnt by the baseline, which is to cost seconds
_MOST_COLUMNS = 50_000  # of words, and as many of letters
_STRENGTH = 10.0  # inverse of the regularisation


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineFigures:
    """What a baseline that learnt `learnt` rows answers on the held-out ones; `right` says which of them rightly."""

    name: str
    learnt: int
    accuracy: float
    macro_f1: float
    right: tuple[bool, ...]


def majority_baseline(train: Sequence[Example], held_out: Sequence[Example]) -> BaselineFigures:
    """Always the commonest class of the training rows; of equals the first in sorted order.

    >>> from datetime import UTC, datetime
    >>> rows = [Example(text=label, label=label, at=datetime(2026, 1, 1, tzinfo=UTC)) for label in "aab"]
    >>> majority_baseline(rows, rows).accuracy
    0.6666666666666666
    """
    return _figures("majority", len(train), majority_answers(train, len(held_out)), held_out)


def tfidf_baseline(train: Sequence[Example], held_out: Sequence[Example], *, seed: int = 0) -> BaselineFigures:
    """Words (1-2) and letters (1-5), sublinear tf-idf, logistic regression one against the rest, by scikit-learn.

    Of more than 20,000 rows it learns that many, drawn by the seed.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline, make_union

    rows = _drawn(train, seed)
    kinds: list[dict[str, Any]] = [{"analyzer": "char_wb", "ngram_range": (1, 5)}]
    if any(_WORD.search(row.text) for row in rows):
        kinds.append({"analyzer": "word", "ngram_range": (1, 2), "token_pattern": _WORD.pattern})
    counts = make_union(*(TfidfVectorizer(sublinear_tf=True, max_features=_MOST_COLUMNS, **kind) for kind in kinds))
    one_class = LogisticRegression(solver="liblinear", dual=True, C=_STRENGTH, max_iter=100, random_state=seed)
    model = make_pipeline(counts, OneVsRestClassifier(one_class))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline may stop a little early
        model.fit([row.text for row in rows], [row.label for row in rows])
        predicted = [str(label) for label in model.predict([row.text for row in held_out])]
    return _figures("tf-idf", len(rows), predicted, held_out)


def _drawn(train: Sequence[Example], seed: int) -> Sequence[Example]:
    if len(train) <= _MOST_ROWS:
        return train
    places: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(train))[:_MOST_ROWS]
    return [train[place] for place in sorted(places)]


def _figures(name: str, learnt: int, predicted: Sequence[str], held_out: Sequence[Example]) -> BaselineFigures:
    labels = [row.label for row in held_out]
    right = tuple(answer == label for answer, label in zip(predicted, labels, strict=True))
    return BaselineFigures(
        name=name,
        learnt=learnt,
        accuracy=sum(right) / len(right),
        macro_f1=macro_f1(list(predicted), labels),
        right=right,
    )
