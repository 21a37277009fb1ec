"""What one version's clean traffic looked like: a compact profile of every row, and a bounded sample of rows."""

import hashlib
import json
import secrets
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import folder_written_whole
from perennial.continual.drift.window import Window, letter_runs, words_of
from perennial.continual.errors import DataError

__all__ = ["ReferenceProfile", "forget_rows"]

_FORMAT = 2
_WITH_TEXTS = 1  # the format of earlier releases, which held the sample's texts and the words themselves
_LEAST_ROWS = 20
_QUANTILES = np.linspace(0.0, 1.0, 101)


class WordsBy(StrEnum):
    """How a text is cut into words. References of earlier releases hold runs of letters, whatever the script."""

    WORDS = "words"
    RUNS = "runs"

    def __call__(self, text: str) -> list[str]:
        """The text's words."""
        return words_of(text) if self is WordsBy.WORDS else letter_runs(text)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceProfile:
    """One version's reference. Rebuilt when the version changes; afterwards rows only leave it, by an erasure.

    `sample` holds at most the rows asked for at `build`, embeddings included. Stored, it is without texts: whoever
    wants to show some reads them by their prediction ids (`with_texts`). `vocabulary` holds salted digests of words; it
    comes from one half of the sample and `unknown_shares` are measured on the other half, so that a clean window and
    the reference are treated alike; `unknown_places` are those rows' places in the sample, -1 for one that an erasure
    took, and None in a reference of an earlier release. `quantiles` has 101 values for each number that a row has.

    >>> w = Window.from_columns({"text": ["card lost"] * 40, "prediction": ["a"] * 40, "confidence": [0.9] * 40,
    ...                          "margin": [0.8] * 40, "entropy": [0.2] * 40, "version": [3] * 40})
    >>> p = ReferenceProfile.build(w, version=3, rng=np.random.default_rng(1))
    >>> p.seen_rows, p.label_counts, len(p.vocabulary), float(p.unknown_shares.max())
    (40, {'a': 40}, 2, 0.0)
    """

    version: int
    seen_rows: int
    label_counts: dict[str, int]
    quantiles: dict[str, NDArray[np.float64]]
    vocabulary: frozenset[str]
    salt: str
    unknown_shares: NDArray[np.float64]
    sample: Window
    cut: WordsBy = WordsBy.WORDS  # how its texts were cut into words; a window's are cut alike
    unknown_places: NDArray[np.int64] | None = None

    @classmethod
    def build(cls, window: Window, *, version: int, rng: np.random.Generator, rows: int = 2_000) -> Self:
        """Return the profile of a window of clean traffic, keeping `rows` of its rows drawn at random.

        Raises:
            DataError: fewer than 20 rows, or rows that another version answered.
        """
        if len(window) < _LEAST_ROWS:
            raise DataError(
                f"a reference for version {version} has {len(window)} rows; wait for at least {_LEAST_ROWS}"
            )
        others = sorted(set(window.versions.tolist()) - {version})
        if others:
            raise DataError(f"a reference for version {version} has rows of versions {others}; filter them first")
        sample = window
        if len(window) > rows:
            sample = window.rows(np.sort(rng.choice(len(window), rows, replace=False)))
        order = rng.permutation(len(sample))
        salt = rng.bytes(8).hex()
        vocabulary = _vocabulary((word for i in order[::2] for word in words_of(str(sample.texts[i]))), salt)
        unknown = np.array([_unknown_share(words_of(str(sample.texts[i])), vocabulary, salt) for i in order[1::2]])
        numbers: dict[str, NDArray[Any] | None] = {
            "confidence": window.confidences,
            "entropy": window.entropies,
            "margin": window.margins,
            "length": window.lengths,
            "non_letter": sample.non_letters,
        }
        return cls(
            version=version,
            seen_rows=len(window),
            label_counts=dict(sorted(Counter(window.predictions.tolist()).items())),
            quantiles={
                name: np.quantile(values.astype(np.float64), _QUANTILES)
                for name, values in numbers.items()
                if values is not None
            },
            vocabulary=vocabulary,
            salt=salt,
            unknown_shares=unknown,
            sample=sample,
            unknown_places=order[1::2],
        )

    def unknown_shares_of(self, window: Window) -> NDArray[np.float64]:
        """Return each row's share of words, in [0, 1], that the vocabulary lacks; 0 for a row without words."""
        return np.array([_unknown_share(self.cut(str(text)), self.vocabulary, self.salt) for text in window.texts])

    def bursts_of(self, unknown: bool) -> NDArray[np.int64]:
        """Return the burst of each row of the sample, or of those whose unknown words were counted."""
        if not unknown:
            return self.sample.own_bursts
        if self.unknown_places is None:  # of an earlier release: nobody knows which rows they were
            return np.arange(len(self.unknown_shares))
        known, own = self.unknown_places >= 0, self.sample.own_bursts
        apart = int(own.max(initial=-1)) + 1 + np.arange(len(known))
        bursts: NDArray[np.int64] = np.where(known, own[np.where(known, self.unknown_places, 0)], apart)
        return bursts

    def with_texts(self, texts: Mapping[str, str]) -> Self:
        """Return the profile with the sample's texts by their prediction ids; what is missing stays empty."""
        if self.sample.ids is None:
            return self
        sample_texts = np.array([texts.get(name, "") for name in self.sample.ids.tolist()], dtype=object)
        return replace(self, sample=replace(self.sample, texts=sample_texts, shapes=self.sample.text_shapes))

    def without_rows(self, prediction_ids: Collection[str]) -> Self:
        """Return the profile without these rows in its sample. Its sums over all rows stay as they were counted."""
        if self.sample.ids is None:
            return self
        gone = set(prediction_ids)
        kept = [place for place, name in enumerate(self.sample.ids.tolist()) if name not in gone]
        if len(kept) == len(self.sample):
            return self
        moved = None if self.unknown_places is None else _moved(self.unknown_places, kept, len(self.sample))
        return replace(self, sample=self.sample.rows(kept), unknown_places=moved)

    def of_rows(self, places: NDArray[np.int64]) -> Self:
        """Return the profile with these rows of the sample alone, and what was measured of them; sums stay."""
        if self.unknown_places is None:
            return replace(self, sample=self.sample.rows(places))
        moved = _moved(self.unknown_places, places, len(self.sample))
        return replace(
            self,
            sample=self.sample.rows(places),
            unknown_shares=self.unknown_shares[moved >= 0],
            unknown_places=moved[moved >= 0],
        )

    def save(self, folder: Path) -> None:
        """Write `profile.json` and `sample.npz`, without texts and words, into the folder, which appears whole."""
        facts = {
            "format": _FORMAT,
            "version": self.version,
            "seen_rows": self.seen_rows,
            "label_counts": self.label_counts,
            "quantiles": {name: values.tolist() for name, values in self.quantiles.items()},
            "vocabulary": sorted(self.vocabulary),
            "salt": self.salt,
            "words_by": self.cut.value,
            "unknown_shares": self.unknown_shares.tolist(),
            "unknown_places": None if self.unknown_places is None else self.unknown_places.tolist(),
        }
        with folder_written_whole(folder) as partial:
            self.sample.without_texts().save(partial / "sample.npz")
            (partial / "profile.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the profile that `save` wrote, this release's or an earlier one's.

        Raises:
            DataError: the folder is incomplete, or another format's.
        """
        try:
            facts = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise DataError(f"the reference in {folder} cannot be read ({exc}); build it again from traffic") from exc
        if facts.get("format") not in {_FORMAT, _WITH_TEXTS}:
            raise DataError(f"the reference in {folder} has format {facts.get('format')}; this release reads {_FORMAT}")
        salt = facts.get("salt") or secrets.token_hex(8)
        words = facts["vocabulary"]
        return cls(
            version=facts["version"],
            seen_rows=facts["seen_rows"],
            label_counts=facts["label_counts"],
            quantiles={name: np.asarray(values) for name, values in facts["quantiles"].items()},
            vocabulary=frozenset(words) if "salt" in facts else _vocabulary(words, salt),
            salt=salt,
            unknown_shares=np.asarray(facts["unknown_shares"], dtype=np.float64),
            sample=Window.load(folder / "sample.npz"),
            cut=WordsBy(facts.get("words_by", WordsBy.RUNS)),
            unknown_places=None if (places := facts.get("unknown_places")) is None else np.asarray(places, np.int64),
        )


def forget_rows(folder: Path, prediction_ids: Collection[str]) -> bool:
    """Take rows out of a stored reference, and texts and words out of one of an earlier release; whether it changed.

    One that fewer than 20 rows would be left of is removed: the watch takes another from the traffic that follows.

    Raises:
        DataError: the reference cannot be read.
    """
    stored = ReferenceProfile.load(folder)
    left = stored.without_rows(prediction_ids)
    old = any(stored.sample.texts)
    if left is stored and not old:
        return False
    if len(left.sample) < _LEAST_ROWS:
        shutil.rmtree(folder)
    else:
        left.save(folder)
    return True


def _moved(places: NDArray[np.int64], kept: Sequence[int] | NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Where the rows at these places lie once only `kept` of `rows` rows are left; -1 for those that are not."""
    new = np.full(rows + 1, -1, dtype=np.int64)  # the last place is that of a row that was gone before
    new[np.asarray(kept, dtype=np.int64)] = np.arange(len(kept))
    moved: NDArray[np.int64] = new[places]
    return moved


def _vocabulary(words: Iterable[str], salt: str) -> frozenset[str]:
    return frozenset(_digest(word, salt) for word in set(words))


def _digest(word: str, salt: str) -> str:
    return hashlib.blake2b(word.encode(), digest_size=8, salt=bytes.fromhex(salt)).hexdigest()


def _unknown_share(words: Sequence[str], vocabulary: frozenset[str], salt: str) -> float:
    return sum(_digest(word, salt) not in vocabulary for word in words) / len(words) if words else 0.0
