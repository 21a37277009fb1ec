"""What answers that cost nothing reach on fresh rows: a new version that is no better is not worth a swap."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from perennial.continual.learning.lexical import LexicalFeatures
from perennial.continual.records import Example

__all__ = ["lexical_answers", "majority_answers", "moved_priors"]

_COLUMNS = 2_048
_MOST_ROWS = 2_000  # newest ones, so that a judgement stays short
_RIDGE = 0.1


def majority_answers(taught: Sequence[Example], asked: int) -> list[str]:
    """The commonest label of the taught rows for each of so many; of equals the first in sorted order.

    >>> from datetime import UTC, datetime
    >>> rows = [Example(text=label, label=label, at=datetime(2026, 1, 1, tzinfo=UTC)) for label in "abb"]
    >>> majority_answers(rows, 2)
    ['b', 'b']
    """
    counts = Counter(row.label for row in taught)
    return [min(counts, key=lambda label: (-counts[label], label))] * asked


def lexical_answers(taught: Sequence[Example], texts: Sequence[str]) -> list[str]:
    """Words and letters under a ridge regression on the newest 2,000 taught rows.

    >>> from datetime import UTC, datetime
    >>> rows = [Example(text=f"my {label} is lost", label=label, at=datetime(2026, 1, 1, tzinfo=UTC))
    ...         for label in ("card", "phone")]
    >>> lexical_answers(rows, ["a phone", "the card"])
    ['phone', 'card']
    """
    newest = sorted(taught, key=lambda row: row.at)[-_MOST_ROWS:]
    labels = sorted({row.label for row in newest})
    features = LexicalFeatures.of_size(_COLUMNS)
    rows = features([row.text for row in newest])
    targets = np.zeros((len(newest), len(labels)))
    targets[np.arange(len(newest)), [labels.index(row.label) for row in newest]] = 1.0
    own = rows @ rows.T + _RIDGE * np.eye(len(rows))  # among rows: there are fewer of them than columns
    scores: NDArray[np.float64] = features(texts) @ (rows.T @ np.linalg.solve(own, targets))
    return [labels[place] for place in scores.argmax(axis=1)]


def moved_priors(scores: Sequence[Mapping[str, float]], before: Sequence[str], after: Sequence[str]) -> list[str]:
    """A version's own answers once its classes are as frequent as in `after`, not as in `before`.

    >>> moved_priors([{"a": 0.6, "b": 0.4}], before=["a", "b"], after=["b"] * 9 + ["a"])
    ['b']
    """
    old, new = Counter(before), Counter(after)
    names = {name for row in scores for name in row}
    rise = {
        name: ((new[name] + 1) / (len(after) + len(names))) / ((old[name] + 1) / (len(before) + len(names)))
        for name in names
    }
    return [max(sorted(row), key=lambda name: row[name] * rise[name]) for row in scores]
