"""What one version's clean traffic looked like: a compact profile of every row, and a bounded sample of rows."""

import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from continual.drift.window import Window, non_letter_share, words_of
from continual.errors import DataError

__all__ = ["ReferenceProfile"]

_FORMAT = 1
_QUANTILES = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceProfile:
    """One version's reference. Rebuilt when the version changes, never updated in place.

    `sample` holds at most the rows asked for at `build`, embeddings included. `vocabulary` comes from one half of
    the sample and `unknown_shares` are measured on the other half, so that a clean window and the reference are
    treated alike. `quantiles` has 101 values for each number of a row.

    >>> w = Window.from_columns({"text": ["card lost"] * 40, "label": ["a"] * 40, "confidence": [0.9] * 40,
    ...                          "margin": [0.8] * 40, "entropy": [0.2] * 40, "version": [3] * 40})
    >>> p = ReferenceProfile.build(w, version=3, rng=np.random.default_rng(1))
    >>> p.seen_rows, p.label_counts, sorted(p.vocabulary), float(p.unknown_shares.max())
    (40, {'a': 40}, ['card', 'lost'], 0.0)
    """

    version: int
    seen_rows: int
    label_counts: dict[str, int]
    quantiles: dict[str, NDArray[np.float64]]
    vocabulary: frozenset[str]
    unknown_shares: NDArray[np.float64]
    sample: Window

    @classmethod
    def build(cls, window: Window, *, version: int, rng: np.random.Generator, rows: int = 2_000) -> Self:
        """Return the profile of a window of clean traffic, keeping `rows` of its rows drawn at random.

        Raises:
            DataError: fewer than 20 rows, or rows that another version answered.
        """
        if len(window) < 20:
            raise DataError(f"a reference for version {version} has {len(window)} rows; wait for at least 20")
        others = sorted(set(window.versions.tolist()) - {version})
        if others:
            raise DataError(f"a reference for version {version} has rows of versions {others}; filter them first")
        sample = window
        if len(window) > rows:
            sample = window.rows(np.sort(rng.choice(len(window), rows, replace=False)))
        order = rng.permutation(len(sample))
        vocabulary = frozenset(word for i in order[::2] for word in words_of(str(sample.texts[i])))
        unknown = np.array([_unknown_share(str(sample.texts[i]), vocabulary) for i in order[1::2]])
        shares = np.array([non_letter_share(str(text)) for text in sample.texts])
        numbers: dict[str, NDArray[Any]] = {
            "confidence": window.confidences,
            "entropy": window.entropies,
            "margin": window.margins,
            "length": window.lengths,
            "non_letter": shares,
        }
        return cls(
            version=version,
            seen_rows=len(window),
            label_counts=dict(sorted(Counter(window.predictions.tolist()).items())),
            quantiles={name: np.quantile(values.astype(np.float64), _QUANTILES) for name, values in numbers.items()},
            vocabulary=vocabulary,
            unknown_shares=unknown,
            sample=sample,
        )

    def unknown_shares_of(self, window: Window) -> NDArray[np.float64]:
        """Return each row's share of words, in [0, 1], that the vocabulary lacks; 0 for a row without words."""
        return np.array([_unknown_share(str(text), self.vocabulary) for text in window.texts])

    def save(self, folder: Path) -> None:
        """Write `profile.json` and `sample.npz` into the folder, which appears whole; it holds texts."""
        facts = {
            "format": _FORMAT,
            "version": self.version,
            "seen_rows": self.seen_rows,
            "label_counts": self.label_counts,
            "quantiles": {name: values.tolist() for name, values in self.quantiles.items()},
            "vocabulary": sorted(self.vocabulary),
            "unknown_shares": self.unknown_shares.tolist(),
        }
        partial = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self.sample.save(partial / "sample.npz")
        (partial / "profile.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the profile that `save` wrote.

        Raises:
            DataError: the folder is incomplete, or another format's.
        """
        try:
            facts = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise DataError(f"the reference in {folder} cannot be read ({exc}); build it again from traffic") from exc
        if facts.get("format") != _FORMAT:
            raise DataError(f"the reference in {folder} has format {facts.get('format')}; this release reads {_FORMAT}")
        return cls(
            version=facts["version"],
            seen_rows=facts["seen_rows"],
            label_counts=facts["label_counts"],
            quantiles={name: np.asarray(values) for name, values in facts["quantiles"].items()},
            vocabulary=frozenset(facts["vocabulary"]),
            unknown_shares=np.asarray(facts["unknown_shares"], dtype=np.float64),
            sample=Window.load(folder / "sample.npz"),
        )


def _unknown_share(text: str, vocabulary: frozenset[str]) -> float:
    words = words_of(text)
    return sum(word not in vocabulary for word in words) / len(words) if words else 0.0
