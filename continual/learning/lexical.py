"""The words and letters of a text as a short vector of numbers: no vocabulary, the same in every process."""

import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.preparation import clean

__all__ = ["KNOWN_WORDS", "LexicalFeatures", "WordScores"]

_WORD = re.compile(r"\w+")
_LETTERS = (2, 3, 4, 5)  # lengths of the runs of letters
_PRIME = np.uint64(0x100000001B3)
_SPACE, _END = np.uint64(ord(" ")), np.uint64(ord("\n"))
_PER_TEXT = np.uint64(0x9E3779B97F4A7C15)
_BLOCK = 512  # texts at a time
KNOWN_WORDS = "lexical_known"  # a head's tensor: what its words give for `_PROBES`
_PROBES = (
    "My card's fee was 2.50 EUR, twice?!",
    "Straße, ÉCOLE, ﬁn, İstanbul, ΟΔΥΣΣΕΥΣ, Ёлка",
    "我的卡丢了，怎么办？ ﾊﾟｽﾜｰﾄﾞ 안녕하세요",
    "هل البطاقة مفقودة؟ हिन्दी में मदद ความช่วยเหลือ",
    "🙂👍🏽 ok ok cafe\u0301",
)
_STRAY = 1e-4  # of the largest known score: so far float32 may differ from float64


@dataclass(frozen=True, slots=True, kw_only=True)
class LexicalFeatures:
    """Single words, pairs of words and runs of two to five letters, each added to one of `size` columns by its hash.

    A run stays within a word and its edges; a script without spaces is one word, so its runs are of neighbouring
    characters. A text is cleaned as a row is, and case-folded first. n occurrences count 1 + log n, and a hash decides
    column and sign. The vector has the length 1 (0 for a text without letters), so that long texts weigh as short ones.

    Source: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning".

    >>> features = LexicalFeatures(size=512)
    >>> X = features(["my card", "My  CARD", "a loan"])
    >>> X.shape, bool(np.allclose(X[0], X[1])), bool(X[0] @ X[2] < 0.3)
    ((3, 512), True, True)
    """

    size: int = 2048

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigurationError(f"the number of lexical columns is {self.size}; it must be positive, e.g. 2048")

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Features of texts, (texts, size)."""
        X = np.zeros((len(texts), self.size))
        for start in range(0, len(texts), _BLOCK):
            X[start : start + _BLOCK] = self._block([_folded(text) for text in texts[start : start + _BLOCK]])
        return X

    def _block(self, texts: Sequence[str]) -> NDArray[np.float64]:
        grams = [_letters(texts), *_words(texts)]
        rows = np.concatenate([place for place, _ in grams])
        hashes = _mixed(np.concatenate([hashed for _, hashed in grams]))
        _, first, counts = np.unique(  # an occurrence is a text and a hash: 63 bits of both together
            _mixed(hashes ^ (rows.astype(np.uint64) + np.uint64(1)) * _PER_TEXT), return_index=True, return_counts=True
        )
        rows, hashes = rows[first], hashes[first]
        values = (1.0 + np.log(counts)) * np.where(hashes >> np.uint64(63), 1.0, -1.0)
        columns = (hashes % np.uint64(self.size)).astype(np.intp)
        cells = np.bincount(rows * self.size + columns, weights=values, minlength=len(texts) * self.size)
        X: NDArray[np.float64] = cells.astype(np.float64).reshape(len(texts), self.size)  # of no weights it makes ints
        lengths = np.linalg.norm(X, axis=1, keepdims=True)
        X /= np.where(lengths > 0, lengths, 1.0)
        return X


class WordScores:
    """What the words and letters of a text add to its logits: the part of a head that no engine computes.

    >>> scores = WordScores(np.ones((3, 16), dtype=np.float32))
    >>> scores(["my card", ""]).shape
    (2, 3)
    """

    def __init__(self, weight: NDArray[np.float32]) -> None:
        self._features = LexicalFeatures(size=weight.shape[1])
        self._weight = np.ascontiguousarray(weight.T)  # (L, C)

    @classmethod
    def read(cls, head: Path) -> "WordScores | None":
        """Those of a head's file; None where there is none, or its head reads embeddings alone.

        Where the file holds known answers, as all but those of the first releases do, they must be repeated: words are
        read by code and by Unicode's tables, and a head is worth nothing where those have changed.

        Raises:
            DataError: the file cannot be read, or its known answers are not repeated.
        """
        from safetensors import SafetensorError, safe_open

        if not head.is_file():
            return None
        try:
            with safe_open(head, framework="np") as file:
                names = frozenset(file.keys())
                if "lexical" not in names:
                    return None
                scores = cls(file.get_tensor("lexical"))
                known = file.get_tensor(KNOWN_WORDS) if KNOWN_WORDS in names else None
        except (OSError, SafetensorError) as error:
            raise DataError(f"{head} cannot be read ({error}); export the version again") from error
        if known is not None:
            scores._check(known, head)
        return scores

    @staticmethod
    def known(weight: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """What words of a weight (C, L) give for a few texts of many scripts, to be kept beside it."""
        features = LexicalFeatures(size=weight.shape[1])(_PROBES)
        return (features @ weight.astype(np.float64).T).astype(np.float32)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits to add, (texts, C)."""
        scores = [
            self._features(texts[start : start + _BLOCK]).astype(np.float32) @ self._weight
            for start in range(0, len(texts), _BLOCK)
        ]
        return np.concatenate(scores) if scores else np.zeros((0, self._weight.shape[1]), dtype=np.float32)

    def _check(self, known: NDArray[np.float32], head: Path) -> None:
        seen, limit = self(_PROBES), _STRAY * max(1.0, float(np.abs(known).max(initial=0.0)))
        stray = float(np.abs(seen - known).max(initial=0.0)) if seen.shape == known.shape else float("inf")
        if not stray <= limit:
            raise DataError(
                f"{head}: words give other scores than when it was trained (by {stray:.3g}, limit {limit:.3g}); this "
                "release of Perennial or of Python reads them otherwise. Train it again, or serve it with the old one"
            )


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", clean(text).casefold())


def _letters(texts: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
    """The text and the hash of every run of letters."""
    joined = "".join(f" {text} \n" for text in texts)
    letters = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    owner = np.repeat(np.arange(len(texts)), [len(text) + 3 for text in texts])
    inside = (letters != _SPACE) & (letters != _END)
    rows, hashes = [], []
    running = np.zeros(len(letters), dtype=np.uint64)
    unbroken = np.ones(len(letters), dtype=bool)  # no space or end strictly within the run, nor an end anywhere
    for length in range(1, max(_LETTERS) + 1):
        last = length - 1
        if last >= len(letters):
            break
        running = running[: len(letters) - last] * _PRIME + letters[last:]
        unbroken = unbroken[: len(letters) - last]
        if length > 2:
            unbroken = unbroken & inside[last - 1 : len(letters) - 1]
        if length in _LETTERS:
            whole = unbroken & (letters[: len(letters) - last] != _END) & (letters[last:] != _END)
            if length == 2:  # an empty text's edges are no run
                whole &= inside[:-1] | inside[1:]
            rows.append(owner[: len(letters) - last][whole])
            hashes.append(running[whole] * _PRIME + np.uint64(length))
    return np.concatenate(rows), np.concatenate(hashes)


def _words(texts: Sequence[str]) -> list[tuple[NDArray[np.intp], NDArray[np.uint64]]]:
    """The text and the hash of every word, and of every pair of neighbours."""
    words_of_texts = [
        [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in _WORD.findall(text)] for text in texts
    ]
    owner = np.repeat(np.arange(len(texts)), [len(words) for words in words_of_texts])
    words = np.array([word for words in words_of_texts for word in words], dtype=np.uint64)
    pair = owner[1:] == owner[:-1]
    single = (words << np.uint64(2)) | np.uint64(1)
    double = ((words[:-1] * _PRIME + words[1:])[pair] << np.uint64(2)) | np.uint64(2)
    return [(owner, single), (owner[1:][pair], double)]


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each number's bits spread over all 64. Source: Steele et al. 2014, the finaliser of SplitMix64."""
    mixed = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
