"""Replies found by weights that were learnt, and tuned, on other replies than those they are tried on."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.service_data import Vectors
from perennial.continual.errors import DataError
from perennial.continual.learning.replies import FEATURES, FitSettings, Library, Matcher, Question, Reply
from perennial.continual.learning.replies.features import Surface
from perennial.continual.learning.replies.fitting import cross_fitted
from perennial.continual.learning.replies.tried import Tried

__all__ = ["category_library", "first_of_categories", "paraphrases", "read_categories", "tested_halves"]

Floats = NDArray[np.float32]
_SHRINKAGES = (0.003, 0.01, 0.03)  # that are tried
_APPROVED, _ASKED = 5, 1500  # questions of a reply, and questions that are tried
_AT_ONCE = 100
_BY_CHANCE = np.random.default_rng(10)


def tested_halves(
    library: Library, often: Mapping[tuple[str, str], int], vectors: Floats, rng: np.random.Generator
) -> Tried:
    """What became of each question: half of the replies teach the weights and their settings, the other half is tried.

    Every question is tried once, beside all replies: `cold` with nothing approved, `warm` with every other question,
    where its reply has one in other words. `again` is a row of the file whose reply stands on another row too, with all
    other rows approved: `often` says on how many rows a reply and a question stand together. A question with several
    replies is left out there, for nothing could tell which one is meant. `cold bm25` and so on are words alone and the
    encoder alone, in the same situation.
    """
    replies = [reply.id for reply in library.replies]
    first = {replies[at] for at in rng.permutation(len(replies))[: len(replies) // 2]}
    tried = Tried()
    for taught in (first, set(replies) - first):
        _try(library, often, vectors, _taught(library, vectors, taught, rng), taught, tried)
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


def _try(
    library: Library,
    often: Mapping[tuple[str, str], int],
    vectors: Floats,
    matcher: Matcher,
    taught: set[str],
    tried: Tried,
) -> None:
    surface, texts = Surface.of(library), library.texts
    names = [reply.id for reply in library.replies]
    rows_of = np.array([often[names[o], texts[at]] for o, at in zip(surface.owners, surface.asked, strict=True)])
    rows_of_reply = np.bincount(surface.owners, rows_of, minlength=len(names))
    rows = np.flatnonzero([names[owner] not in taught for owner in surface.owners])
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        asked, truth = surface.asked[part], surface.owners[part]
        searched = matcher.searched(surface, vectors[asked], [texts[at] for at in asked], vectors)
        same = asked[:, None] == surface.asked[None, :]
        cold = searched.features(surface, without=np.ones_like(same))
        warm = searched.features(surface, without=same)
        known = np.flatnonzero(warm[np.arange(len(part)), truth, 0] > 0)  # another question is approved
        own = (part[:, None] == np.arange(len(surface.asked))[None, :]) & (rows_of[part] == 1)[:, None]
        again = np.repeat(np.arange(len(part)), rows_of[part] * (rows_of_reply[truth] > 1) * (same.sum(axis=1) == 1))
        rest = searched.features(surface, without=own)[again]
        tried.add("cold", cold, matcher.weights, truth)
        tried.add("warm", warm[known], matcher.weights, truth[known])
        tried.add("again", rest, matcher.weights, truth[again])
        for name, way in (("bm25", "_words"), ("encoder", "")):
            _try_alone(tried, f"cold {name}", cold, f"answer{way}", truth)
            _try_alone(tried, f"warm {name}", warm[known], f"question{way}", truth[known])
            _try_alone(tried, f"again {name}", rest, f"question{way}", truth[again])


def _try_alone(tried: Tried, name: str, features: Floats, feature: str, truth: NDArray[np.intp]) -> None:
    """One feature by itself; replies that it finds equally good come in an order by chance."""
    scores = features[:, :, FEATURES.index(feature)]
    tried.add(name, (scores + _BY_CHANCE.random(scores.shape) * 1e-6)[:, :, None], np.ones(1, np.float32), truth)


def paraphrases(folder: Path, vectors: Vectors, *, every: int = 1) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How sure the first reply was and whether it was right: one reply a category, five questions of each approved.

    The questions that are tried are of `test.csv`; the weights are learnt of `train.csv`'s first ten of each category,
    of which five are approved. A reply's text is its category's name.
    """
    train, test = (read_categories(folder / name) for name in ("train.csv", "test.csv"))
    names = sorted({category for _, category in train})
    learnt, given = first_of_categories(train, 2 * _APPROVED), first_of_categories(train, _APPROVED)
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
    rows = read_categories(folder / "train.csv")
    drawn = np.random.default_rng(9).permutation(len(rows))[: 2 * _ASKED // every]
    names = sorted({category for _, category in rows})
    return Library(
        replies=tuple(Reply(id=name, text=name.replace("_", " "), intent=name) for name in names),
        questions=tuple(dict.fromkeys(Question(reply=rows[at][1], text=rows[at][0]) for at in drawn)),
    )


def first_of_categories(rows: Sequence[tuple[str, str]], most: int) -> Library:
    """A reply a category, its text the category's name, with so many of its questions approved."""
    names = sorted({category for _, category in rows})
    taken: dict[str, list[str]] = {name: [] for name in names}
    for text, category in rows:
        if len(taken[category]) < most:
            taken[category].append(text)
    return Library(
        replies=tuple(Reply(id=name, text=name.replace("_", " "), intent=name) for name in names),
        questions=tuple(Question(reply=name, text=text) for name in names for text in taken[name]),
    )


def read_categories(path: Path) -> list[tuple[str, str]]:
    """Text and category of each row."""
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]
