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
from perennial.continual.learning.calibration import Link
from perennial.continual.learning.mapped_rows import mapped_rows
from perennial.continual.preparation import clean

__all__ = ["KNOWN", "LINK", "OF_WORDS", "LexicalFeatures", "WordScores"]

_UNSPACED = (  # scripts that put no spaces between words, of which every sign stands for a word
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(r"\w+")
_WORD_OR_SIGN = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_LETTERS = (2, 3, 4, 5)  # lengths of the runs of letters
_PRIME = np.uint64(0x100000001B3)
_SPACE, _END = np.uint64(ord(" ")), np.uint64(ord("\n"))
_PER_PLACE = np.uint64(0x9E3779B97F4A7C15)
_PER_SKETCH = 0xD1B54A32D192ED03
_BLOCK = 512  # texts at a time
_FEW = 16  # of those that are answered: so many features stay in a processor's cache
_ALONE = 2  # texts of which a seventh of the columns hold something: only their weights are read
_WORDS_KEPT, _LONGEST_KEPT = 8_192, 24  # of the words seen last, and the characters of one
_OF_SOMEBODY = re.compile(r"[\d@]")  # in a word that may be a card's number, a telephone's, or an address
Grams = tuple[NDArray[np.intp], NDArray[np.uint64]]  # the text and the hash of each
WEIGHT, OF_WORDS, KNOWN, LINK = "lexical", "lexical_of_words", "lexical_known", "link"  # tensors of a head's file
_PROBES = (
    "My card's fee was 2.50 EUR, twice?!",
    "Straße, ÉCOLE, ﬁn, İstanbul, ΟΔΥΣΣΕΥΣ, Ёлка",
    "我的卡丢了，怎么办？ ﾊﾟｽﾜｰﾄﾞ 안녕하세요",
    "هل البطاقة مفقودة؟ हिन्दी में मदद ความช่วยเหลือ",
    "🙂👍🏽 ok ok cafe\u0301",
)
_NOTHING = 1e-20  # of a squared length: what cancels out, but for rounding
_STRAY = 1e-4  # of the largest known score: so far float32 may differ from float64


@dataclass(frozen=True, slots=True, kw_only=True)
class LexicalFeatures:
    """Single words, pairs of words and runs of two to five letters, each added to one of `size` columns by its hash.

    Words and pairs have the first `of_words` columns, and letters the others; each part has half of a text's weight,
    however many runs there are for a word. A script that puts no spaces between words has its signs for words. With no
    columns of their own, as in earlier releases, words share all columns with the letters.

    A run stays within a word and its edges. A text is cleaned as a row is, and case-folded first. n occurrences count
    1 + log n, and a hash decides column and sign. The vector has the length 1 (0 for a text without letters), so that
    long texts weigh as short ones.

    Several `sketches` share the columns alike: each has all words and letters, by hashes of its own, in its share.

    Source: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning".

    >>> features = LexicalFeatures.of_size(512)
    >>> X = features(["my card", "My  CARD", "a loan"])
    >>> X.shape, bool(np.allclose(X[0], X[1])), bool(X[0] @ X[2] < 0.3)
    ((3, 512), True, True)
    """

    size: int
    of_words: int = 0
    sketches: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.of_words < self.size:
            raise ConfigurationError(
                f"of {self.size} lexical columns {self.of_words} are for words; there must be some for letters too, "
                "e.g. 2048 of 3072"
            )
        if self.sketches < 1 or self.size % self.sketches or self.of_words % self.sketches:
            raise ConfigurationError(
                f"{self.sketches} sketches cannot share {self.size} lexical columns, {self.of_words} of them for "
                "words; both must be multiples, e.g. 4 sketches of 6144 and 4096"
            )

    @classmethod
    def of_size(cls, size: int, sketches: int = 1) -> "LexicalFeatures":
        """So many columns a sketch; two for words to one for letters, which share more among themselves."""
        return cls(size=sketches * size, of_words=sketches * (2 * size // 3), sketches=sketches)

    @classmethod
    def of_tensor(cls, size: int, tensor: NDArray[Any]) -> "LexicalFeatures":
        """What `as_tensor` made of features of a size; there was one sketch before it said how many."""
        of_words, *sketches = (int(value) for value in tensor)
        return cls(size=size, of_words=of_words, sketches=sketches[0] if sketches else 1)

    def as_tensor(self) -> NDArray[np.int64]:
        """What a file holds beside the size."""
        return np.array([self.of_words, self.sketches])

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Features of texts, (texts, size), one sketch after the other."""
        if 0 < len(texts) <= _BLOCK:
            return self._block(texts)
        X = np.zeros((len(texts), self.size))
        for start in range(0, len(texts), _BLOCK):
            X[start : start + _BLOCK] = self._block(texts[start : start + _BLOCK])
        return X

    def _block(self, texts: Sequence[str]) -> NDArray[np.float64]:
        cells, values = self.entries(texts)
        X = np.bincount(cells, weights=values, minlength=len(texts) * self.size)
        return X.astype(np.float64, copy=False).reshape(len(texts), self.size)  # of no weights it makes ints

    def entries(self, texts: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """What is added to which cell of the features of texts, whose rows stand one behind the other."""
        columns, of_words = self.size // self.sketches, self.of_words // self.sketches
        texts = [_folded(text) for text in texts]
        if of_words:
            parts = [(0, of_words, _words(texts, _WORD_OR_SIGN)), (of_words, columns, [_LETTERS_OF(texts)])]
        else:
            parts = [(0, columns, [_LETTERS_OF(texts), *_words(texts, _WORD)])]
        runs = _Counted.of([grams for *_, grams in parts])
        starts, ends = (np.array(edges, dtype=np.uint64) for edges in zip(*((a, b) for a, b, _ in parts), strict=True))
        kind = runs.places % len(parts)
        salts = np.array([sketch * _PER_SKETCH % 2**64 for sketch in range(1, self.sketches)], dtype=np.uint64)
        hashes = np.concatenate([runs.hashes[None], _mixed(runs.hashes + salts[:, None])])  # (sketches, runs)
        values = np.where(hashes >> np.uint64(63), runs.values, -runs.values).ravel()
        within = hashes % (ends - starts)[kind] + starts[kind]
        sketches = np.arange(self.sketches)[:, None]
        cells = ((runs.places // len(parts) * self.sketches + sketches) * columns + within.astype(np.intp)).ravel()
        groups = (runs.places * self.sketches + sketches).ravel()  # a text's words in a sketch, or its letters
        sums = np.bincount(cells, weights=values, minlength=len(texts) * self.size)
        lengths = np.bincount(groups, weights=values * sums[cells], minlength=len(texts) * len(parts) * self.sketches)
        present = np.bincount(runs.places, minlength=len(texts) * len(parts)).reshape(len(texts), -1) > 0
        share = np.repeat(np.maximum(present.sum(axis=1), 1), len(parts) * self.sketches)  # one of signs has no words
        scales = 1.0 / np.sqrt(np.where(lengths > _NOTHING, lengths, 1.0) * share * self.sketches)
        return cells, values * scales[groups]


class WordScores:
    """What a text's words and letters add to its logits, and the link after it: the part of a head beside the engine.

    >>> scores = WordScores(np.ones((3, 16), dtype=np.float32), LexicalFeatures.of_size(16))
    >>> scores(["my card", ""]).shape
    (2, 3)
    """

    def __init__(self, weight: NDArray[np.float32], features: LexicalFeatures, link: Link | None = None) -> None:
        self._features, self._link = features, link
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
                if WEIGHT not in names:
                    return None
                weight = file.get_tensor(WEIGHT)
                shape = file.get_tensor(OF_WORDS) if OF_WORDS in names else np.zeros(1)
                known = file.get_tensor(KNOWN) if KNOWN in names else None
                link = Link.of_tensor(file.get_tensor(LINK)) if LINK in names else None
        except (OSError, SafetensorError) as error:
            raise DataError(f"{head} cannot be read ({error}); export the version again") from error
        scores = cls(weight, LexicalFeatures.of_tensor(weight.shape[1], shape), link)
        if known is not None:
            scores._check(known, head)
        return scores

    @staticmethod
    def tensors(
        weight: NDArray[np.float32], features: LexicalFeatures, link: Link | None = None
    ) -> dict[str, NDArray[Any]]:
        """What a head's file holds of a weight (C, L): `KNOWN` is what it gives for a few texts of many scripts."""
        known = (features(_PROBES) @ weight.astype(np.float64).T).astype(np.float32)
        linked = {} if link is None else {LINK: link.as_tensor()}
        return {WEIGHT: weight, OF_WORDS: features.as_tensor(), KNOWN: known, **linked}

    def whole(self, logits: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.float32]:
        """The head's logits (texts, C) out of those that its engine gives for the texts."""
        return self.linked(logits + self(texts))

    def linked(self, sums: NDArray[np.float32]) -> NDArray[np.float32]:
        """The head's logits out of the sums of both parts."""
        return sums if self._link is None else self._link(sums).astype(np.float32)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits to add, (texts, C)."""
        if (known := mapped_rows()) is not None:
            return known.of_words(texts, self._features, self._weight)
        scores = [self._of_few(texts[start : start + _FEW]) for start in range(0, len(texts), _FEW)]
        return np.concatenate(scores) if scores else np.zeros((0, self._weight.shape[1]), dtype=np.float32)

    def _of_few(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if len(texts) > _ALONE:
            return self._features(texts).astype(np.float32) @ self._weight
        scores = []
        for text in texts:
            cells, values = self._features.entries([text])
            scores.append(values.astype(np.float32) @ self._weight[cells])
        return np.stack(scores)

    def _check(self, known: NDArray[np.float32], head: Path) -> None:
        seen, limit = self(_PROBES), _STRAY * max(1.0, float(np.abs(known).max(initial=0.0)))
        stray = float(np.abs(seen - known).max(initial=0.0)) if seen.shape == known.shape else float("inf")
        if not stray <= limit:
            raise DataError(
                f"{head}: words give other scores than when it was trained (by {stray:.3g}, limit {limit:.3g}); this "
                "release of Perennial or of Python reads them otherwise. Train it again, or serve it with the old one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """The different runs of some texts, and what each counts: a place is a text and one of several parts of it."""

    places: NDArray[np.intp]
    hashes: NDArray[np.uint64]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, parts: Sequence[Sequence[Grams]]) -> "_Counted":
        grams = [(rows * len(parts) + part, hashes) for part, each in enumerate(parts) for rows, hashes in each]
        places = np.concatenate([place for place, _ in grams])
        hashes = _mixed(np.concatenate([hashed for _, hashed in grams]))
        both = hashes ^ (places.astype(np.uint64) + np.uint64(1)) * _PER_PLACE  # 64 bits tell the place and the run
        order = both.argsort(kind="stable")
        both = both[order]
        starts = np.flatnonzero(np.concatenate([[True], both[1:] != both[:-1]])[: len(both)])
        counts, first = np.diff(starts, append=len(both)), order[starts]
        return cls(places=places[first], hashes=hashes[first], values=1.0 + np.log(counts))


class _LettersOfWords:
    """The text and the hash of every run of letters, as `_letters` gives them: texts share most of their words.

    What a word has is kept for the next text with it, in memory alone; numbers and addresses are not. Safe to share
    between threads.
    """

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.uint64]] = {}

    def __call__(self, texts: Sequence[str]) -> Grams:
        words_of = [text.split(" ") for text in texts]
        owner = np.repeat(np.arange(len(texts)), [len(words) for words in words_of])
        kept = self._kept
        found = {word: kept[word] for words in words_of for word in words if word in kept}
        if new := dict.fromkeys(word for words in words_of for word in words if word not in found):
            found.update(self._learnt(list(new)))
        hashes = [found[word] for words in words_of for word in words]
        return np.repeat(owner, [len(each) for each in hashes]), np.concatenate(hashes)

    def _learnt(self, words: Sequence[str]) -> dict[str, NDArray[np.uint64]]:
        owner, hashes = _letters(words)
        order = owner.argsort(kind="stable")
        ends = np.cumsum(np.bincount(owner, minlength=len(words)))[:-1]
        learnt = dict(zip(words, np.split(hashes[order], ends), strict=True))
        if len(self._kept) + len(words) > _WORDS_KEPT:
            self._kept = {}
        for word, each in learnt.items():
            short = len(word) <= _LONGEST_KEPT and len(self._kept) < _WORDS_KEPT
            if short and not _OF_SOMEBODY.search(word):
                self._kept[word] = each.copy()  # a view would keep the others' alive
        return learnt


_LETTERS_OF = _LettersOfWords()


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


def _words(texts: Sequence[str], word: re.Pattern[str]) -> list[tuple[NDArray[np.intp], NDArray[np.uint64]]]:
    """The text and the hash of every word, and of every pair of neighbours."""
    words_of_texts = [
        [zlib.crc32(each.encode("utf-8", "surrogatepass")) for each in word.findall(text)] for text in texts
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
