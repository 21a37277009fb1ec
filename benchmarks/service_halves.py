"""Replies found by weights that were learnt, and tuned, on other replies than those they are tried on."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.service_data import Vectors
from perennial.continual.errors import DataError
from perennial.continual.learning.replies import FEATURES, FitSettings, Library, Matcher, Question, Reply
from perennial.continual.learning.replies.features import Surface
from perennial.continual.learning.replies.fitting import Tried, cross_fitted

__all__ = ["category_library", "paraphrases", "tested_halves"]

Floats = NDArray[np.float32]
_SHRINKAGES = (0.003, 0.01, 0.03)  # that are tried
_APPROVED, _ASKED = 5, 1500  # questions of a reply, and questions that are tried
_AT_ONCE = 100


def tested_halves(library: Library, vectors: Floats, rng: np.random.Generator) -> Tried:
    """What became of each question: half of the replies teach the weights and their settings, the other half is tried.

    Every question is tried once, beside all replies: `cold` with nothing approved, `warm` with every other question,
    where its reply has one. `cold bm25` and so on are words alone and the encoder alone, in the same situation.
    """
    replies = [reply.id for reply in library.replies]
    first = {replies[at] for at in rng.permutation(len(replies))[: len(replies) // 2]}
    tried = Tried()
    for taught in (first, set(replies) - first):
        _try(library, vectors, _taught(library, vectors, taught, rng), taught, tried)
    return tried


def _taught(library: Library, vectors: Floats, taught: set[str], rng: np.random.Generator) -> Matcher:
    """Weights of some replies, by the settings that did best on folds of these replies alone."""
    part = Library(
        replies=tuple(reply for reply in library.replies if reply.id in taught),
        questions=tuple(question for question in library.questions if question.reply in taught),
    )
    place = {text: at for at, text in enumerate(library.texts)}
    embedded = vectors[[place[text] for text in part.texts]]
    seed = int(rng.integers(2**31))
    found = [
        cross_fitted(part, embedded, np.random.default_rng(seed), FitSettings(folds=4, shrinkage=shrinkage))
        for shrinkage in _SHRINKAGES
    ]
    matchers = [each[0] for each in found if each is not None]
    if not matchers:
        raise DataError(f"{len(part.questions)} questions of half of the replies are too few to learn of")
    return max(matchers, key=lambda each: each.metrics["cold_recall_3"])


def _try(library: Library, vectors: Floats, matcher: Matcher, taught: set[str], tried: Tried) -> None:
    surface, texts = Surface.of(library), library.texts
    names = [reply.id for reply in library.replies]
    rows = np.flatnonzero([names[owner] not in taught for owner in surface.owners])
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        asked, truth = surface.asked[part], surface.owners[part]
        searched = matcher.searched(surface, vectors[asked], [texts[at] for at in asked], vectors)
        same = asked[:, None] == surface.asked[None, :]
        cold = searched.features(surface, without=np.ones_like(same))
        warm = searched.features(surface, without=same)
        known = np.flatnonzero(warm[np.arange(len(part)), truth, 0] > 0)  # another question is approved
        tried.add("cold", cold, matcher.weights, truth)
        tried.add("warm", warm[known], matcher.weights, truth[known])
        for name, way in (("bm25", "_words"), ("encoder", "")):
            tried.add(f"cold {name}", cold, _alone(f"answer{way}"), truth)
            tried.add(f"warm {name}", warm[known], _alone(f"question{way}"), truth[known])


def _alone(feature: str) -> Floats:
    return np.array([float(name == feature) for name in FEATURES], dtype=np.float32)


def paraphrases(folder: Path, vectors: Vectors, *, every: int = 1) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How sure the first reply was and whether it was right: one reply a category, five questions of each approved.

    The questions that are tried are of `test.csv`; the weights are learnt of `train.csv`'s first ten of each category,
    of which five are approved. A reply's text is its category's name.
    """
    train, test = (_rows(folder / name) for name in ("train.csv", "test.csv"))
    names = sorted({category for _, category in train})
    replies = tuple(Reply(id=name, text=name.replace("_", " "), intent=name) for name in names)
    taken: dict[str, list[str]] = {name: [] for name in names}
    for text, category in train:
        if len(taken[category]) < 2 * _APPROVED:
            taken[category].append(text)
    learnt, given = (
        Library(replies=replies, questions=tuple(Question(reply=n, text=t) for n in names for t in taken[n][:most]))
        for most in (2 * _APPROVED, _APPROVED)
    )
    drawn = np.random.default_rng(7).permutation(len(test))[: _ASKED // every]
    asked = [test[at] for at in drawn]
    vectors([*learnt.texts, *(text for text, _ in asked)])
    found = cross_fitted(learnt, vectors(learnt.texts), np.random.default_rng(8))
    matcher = Matcher() if found is None else found[0]
    surface, embedded = Surface.of(given), vectors(given.texts)
    texts, truth = [text for text, _ in asked], np.array([names.index(category) for _, category in asked])
    tried = Tried()
    for start in range(0, len(texts), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        searched = matcher.searched(surface, vectors(texts[part]), texts[part], embedded)
        tried.add("asked", searched.features(surface), matcher.weights, truth[part])
    return tried.sure("asked")


def category_library(folder: Path, *, every: int = 1) -> Library:
    """A reply a category of `train.csv`, and questions drawn of all: the same thing asked in many words."""
    rows = _rows(folder / "train.csv")
    drawn = np.random.default_rng(9).permutation(len(rows))[: 2 * _ASKED // every]
    names = sorted({category for _, category in rows})
    return Library(
        replies=tuple(Reply(id=name, text=name.replace("_", " "), intent=name) for name in names),
        questions=tuple(dict.fromkeys(Question(reply=rows[at][1], text=rows[at][0]) for at in drawn)),
    )


def _rows(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]
