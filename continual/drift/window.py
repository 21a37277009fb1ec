"""Answered requests as arrays: the current window, and the reference that a version is compared with."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import lru_cache
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError

__all__ = ["Window", "letter_runs", "non_letter_share", "text_shape", "words_of"]

_WORD = re.compile(r"[^\W\d_]+")
_WITHOUT_SPACES = re.compile(  # Thai, Lao, Burmese, Khmer, kana, bopomofo and Han
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff]"
)
_SENTENCE_END = re.compile(r"[.!?。！？।؟]+")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """Answered requests in the order they came, one array a column, all of one length n.

    `texts` say what was asked, `predictions` what was answered; `answers` are whole answers as they are kept, where a
    prediction is but a part of them. A task without probabilities has no `confidences`, `margins` and `entropies`.
    `shapes` is (n, 4): characters, words, sentences, and the share that is neither letter
    nor space. A window that was stored without its texts has empty ones, and these. `embeddings` is (n, d) or absent.
    `hits`, `popularities` and `new_items` (n,) say what became of an answer, where that was looked for: whether
    something of it was liked, how popular what was liked had been (0 to 1), if it was new; NaN where nobody told
    (`perennial.continual.drift.outcomes` says what that means).
    `brightnesses`, in [0, 1], and `sizes`, the root of an image's pixels, (n,), are of images alone; their texts are
    names, which hold no words.
    `bursts` (n,) has one number for all requests of a burst (`perennial.continual.drift.dependence.bursts_of`), or is
    absent where each stands for itself.
    `times` is datetime64[us] in UTC or absent. `lengths` are tokens or words, in one unit for reference and window.

    >>> w = Window.from_columns({"text": ["card lost", "pin"], "prediction": ["a", "b"], "confidence": [0.9, 0.4],
    ...                          "margin": [0.8, 0.1], "entropy": [0.2, 1.1], "version": [3, 3]})
    >>> len(w), w.lengths.tolist(), len(w.rows([1]))
    (2, [2, 1], 1)
    """

    texts: NDArray[np.object_]
    predictions: NDArray[np.str_]
    lengths: NDArray[np.int32]
    versions: NDArray[np.int64]
    answers: NDArray[np.str_] | None = None
    confidences: NDArray[np.float32] | None = None
    margins: NDArray[np.float32] | None = None
    entropies: NDArray[np.float32] | None = None
    embeddings: NDArray[np.floating[Any]] | None = None
    times: NDArray[np.datetime64] | None = None
    ids: NDArray[np.str_] | None = None
    shapes: NDArray[np.float64] | None = None
    hits: NDArray[np.float32] | None = None
    popularities: NDArray[np.float32] | None = None
    new_items: NDArray[np.float32] | None = None
    brightnesses: NDArray[np.float32] | None = None
    sizes: NDArray[np.float32] | None = None
    bursts: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        n = len(self.texts)
        for name in self.__slots__:
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise DataError(f"a window's column {name} has {len(column)} rows; texts have {n}: give one length")
        if self.embeddings is not None and self.embeddings.ndim != 2:
            raise DataError(f"a window's embeddings have shape {self.embeddings.shape}; give (rows, dimensions)")

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> Self:
        """Return a window from columns named like the traffic log's; sequences, numpy or Arrow arrays.

        `text`, `prediction` and `version` must be there; `answer`, `confidence`, `margin`, `entropy`, `embedding`,
        `at`, `tokens`, `prediction_id`, `brightness` and `size` may. Embeddings with a missing row are left out whole.
        A fixed-size-list Arrow column is taken without copying each row.

        Raises:
            DataError: a column is missing, or the columns differ in length.
        """
        needed = ("text", "prediction", "version")
        missing = [name for name in needed if name not in columns]
        if missing:
            raise DataError(f"a window lacks the columns {missing}; it needs {list(needed)}")
        texts = np.array([str(text) for text in _plain(columns["text"])], dtype=object)
        tokens = columns.get("tokens")
        lengths = [len(str(text).split()) for text in texts] if tokens is None else _plain(tokens)
        return cls(
            texts=texts,
            predictions=np.asarray(_plain(columns["prediction"]), dtype=str),
            answers=None if columns.get("answer") is None else np.asarray(_plain(columns["answer"]), dtype=str),
            confidences=_reals(columns.get("confidence")),
            margins=_reals(columns.get("margin")),
            entropies=_reals(columns.get("entropy")),
            lengths=np.asarray(lengths, dtype=np.int32),
            versions=np.asarray(_plain(columns["version"]), dtype=np.int64),
            embeddings=_embeddings(columns.get("embedding")),
            times=_times(columns.get("at")),
            brightnesses=_reals(columns.get("brightness")),
            sizes=_reals(columns.get("size")),
            ids=None
            if columns.get("prediction_id") is None
            else np.asarray(_plain(columns["prediction_id"]), dtype=str),
        )

    @property
    def whole_answers(self) -> NDArray[np.str_]:
        """What a score is given for."""
        return self.predictions if self.answers is None else self.answers

    @property
    def has_words(self) -> bool:
        """Whether the texts say something; those of images are their names."""
        return self.brightnesses is None

    @property
    def own_bursts(self) -> NDArray[np.int64]:
        """The burst of each row; one of its own where none are known."""
        return np.arange(len(self)) if self.bursts is None else self.bursts

    @property
    def text_shapes(self) -> NDArray[np.float64]:
        """What is known of each text without its words, (n, 4); see `shapes`."""
        if self.shapes is not None:
            return self.shapes
        return np.array([text_shape(str(text)) for text in self.texts], dtype=np.float64).reshape(len(self), 4)

    @property
    def non_letters(self) -> NDArray[np.float64]:
        """Each text's share of characters that are neither letters nor spaces."""
        return self.text_shapes[:, 3]

    def without_texts(self) -> Self:
        """Return the window with empty texts, whose shapes stay."""
        return replace(self, texts=np.full(len(self), "", dtype=object), shapes=self.text_shapes)

    def rows(self, chosen: Sequence[int] | NDArray[np.integer[Any]] | slice) -> Self:
        """Return a window of the chosen rows, in the order given."""
        index = chosen if isinstance(chosen, slice) else np.asarray(chosen, dtype=np.int64)

        def take(column: Any) -> Any:
            return None if column is None else column[index]

        return type(self)(**{name: take(getattr(self, name)) for name in self.__slots__})

    def save(self, path: Path) -> None:
        """Write one `.npz` file, without pickles; it holds the texts, unless the window is without."""
        columns = {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) is not None}
        encoded = [str(text).encode() for text in self.texts]
        columns["texts"] = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, text_ends=ends, **columns)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the window that `save` wrote.

        Raises:
            DataError: the file is missing or damaged.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                columns = {name: stored[name] for name in stored.files}
            raw, ends = columns.pop("texts").tobytes(), columns.pop("text_ends").tolist()
            texts = [raw[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as exc:
            raise DataError(f"the window in {path} cannot be read ({exc}); cut it again from the traffic log") from exc
        return cls(texts=np.array(texts, dtype=object), **columns)


def words_of(text: str) -> list[str]:
    """Return the lower-case words of letters, in order; in scripts that set no spaces each character is one.

    A mark belongs to the letter before it.

    >>> words_of("Card N26 hasn't come!"), words_of("我的card"), words_of("हिन्दी में")
    (['card', 'n', 'hasn', 't', 'come'], ['我', '的', 'card'], ['हिन्दी', 'में'])
    """
    lowered = text.lower()
    return _WORD.findall(lowered) if lowered.isascii() else [word for word in _pieces(lowered) if word]


def letter_runs(text: str) -> list[str]:
    """Return what an earlier release took for words: runs of letters, without marks and whatever the script.

    >>> letter_runs("我的 Card")
    ['我的', 'card']
    """
    return _WORD.findall(text.lower())


def _pieces(text: str) -> Iterator[str]:
    word = ""
    for character in text:
        kind = _kind(character)
        if kind is _Kind.MARK:
            word += character if word else ""
            continue
        if kind is not _Kind.LETTER or (word and _kind(word[0]) is not _Kind.LETTER):
            yield word
            word = ""
        if kind is not _Kind.OTHER:
            word += character
    yield word


class _Kind(Enum):
    LETTER = auto()
    ALONE = auto()  # a letter of a script that sets no spaces between words
    MARK = auto()
    OTHER = auto()


@lru_cache(maxsize=1 << 16)
def _kind(character: str) -> _Kind:
    if character.isalpha():
        return _Kind.ALONE if _WITHOUT_SPACES.match(character) else _Kind.LETTER
    return _Kind.MARK if unicodedata.category(character) in {"Mn", "Mc"} else _Kind.OTHER


def text_shape(text: str) -> tuple[int, int, int, float]:
    """Return characters, words, sentences and the share of characters that are neither letters nor spaces.

    >>> text_shape("Card lost! Help.")
    (16, 3, 2, 0.125)
    """
    sentences = sum(bool(part.strip()) for part in _SENTENCE_END.split(text))
    return len(text), len(text.split()), sentences, non_letter_share(text)


def non_letter_share(text: str) -> float:
    """Return the share of characters in [0, 1] that are neither letters nor spaces; 0 for an empty text.

    >>> non_letter_share("ab 1!")
    0.4
    """
    return sum(not (c.isalpha() or c.isspace()) for c in text) / len(text) if text else 0.0


def _plain(column: Any) -> Any:
    if hasattr(column, "to_numpy"):  # Arrow and pandas columns
        try:
            return column.to_numpy(zero_copy_only=False)
        except TypeError:
            return column.to_numpy()
    return column


def _reals(column: Any) -> NDArray[np.float32] | None:
    return None if column is None else np.asarray(_plain(column), dtype=np.float32)


def _times(column: Any) -> NDArray[np.datetime64] | None:
    if column is None:
        return None
    values = _plain(column)
    if len(values) and getattr(values[0], "tzinfo", None) is not None:
        values = [value.timestamp() * 1e6 for value in values]
        return np.asarray(values, dtype=np.int64).astype("datetime64[us]")
    return np.asarray(values, dtype="datetime64[us]")


def _embeddings(column: Any) -> NDArray[np.floating[Any]] | None:
    if column is None:
        return None
    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    if hasattr(column, "null_count") and (column.null_count or not len(column)):
        return None
    if hasattr(column, "flatten") and not isinstance(column, np.ndarray):
        flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False))
        column = flat.reshape(len(column), -1)
    if not isinstance(column, np.ndarray):
        column = np.array([*column, None], dtype=object)[:-1]  # one row an element, whatever the rows are
    if column.dtype == object:
        if len(column) == 0 or any(row is None for row in column.flat):
            return None
        column = list(column)
    try:
        rows: NDArray[Any] = np.stack([np.asarray(row) for row in column]) if isinstance(column, list) else column
        return rows if rows.dtype in (np.float16, np.float32) else rows.astype(np.float32)
    except (TypeError, ValueError) as exc:
        raise DataError(f"a window's embeddings are no rows of numbers of one length: {exc}") from exc
