"""What one approved question buys: the same thing asked again, in nearly the same words and in others."""

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.service_data import Vectors
from benchmarks.service_halves import first_of_categories, read_categories
from perennial.continual.learning.replies import Library, Matcher, Question
from perennial.continual.learning.replies.features import Surface
from perennial.continual.learning.replies.fitting import cross_fitted
from perennial.continual.learning.replies.tried import Tried

__all__ = ["asked_rows", "similar_approved"]

_LIKE = 0.5  # of all words of two similar questions are in both
_ASKED, _AT_ONCE = 1500, 100
_WORD = re.compile(r"\w+")


def asked_rows(path: Path, library: Library) -> Counter[tuple[str, str]]:
    """How often each pair of reply and question stands in the file."""
    reply = {each.text: each.id for each in library.replies}
    with path.open(encoding="utf-8", newline="") as file:
        pairs = [(reply.get(row["answer"], ""), row["question"]) for row in csv.DictReader(file)]
    return Counter(pair for pair in pairs if pair[0])


def similar_approved(
    folder: Path, vectors: Vectors, *, approved: int, every: int = 1
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], float]:
    """Whether the first reply is right, before and after one similar question is approved, and the share that has one.

    One reply a category, with so many questions approved, whatever they are. What is asked is of `test.csv`; the
    similar question is of `train.csv`, the category's one that has most words in common with it, if these are half of
    all their words. No encoder has a say in what is similar. Weights are learnt of the first ten of each category.
    """
    train, test = (read_categories(folder / name) for name in ("train.csv", "test.csv"))
    names = sorted({category for _, category in train})
    learnt = first_of_categories(train, 10)
    given = first_of_categories(train, approved)
    taught = {question.text for question in learnt.questions}
    words = {text: frozenset(_WORD.findall(text.casefold())) for text, _ in (*train, *test)}
    others = {name: [text for text, category in train if category == name and text not in taught] for name in names}
    drawn = np.random.default_rng(7).permutation(len(test))[: _ASKED // every]
    pairs: list[tuple[str, str, str]] = []
    for text, category in (test[at] for at in drawn):
        best = max(others[category], key=lambda other: _common(words[text], words[other]))
        if _common(words[text], words[best]) >= _LIKE:
            pairs.append((text, category, best))
    told = dict.fromkeys(Question(reply=category, text=best) for _, category, best in pairs)
    library = Library(replies=given.replies, questions=(*given.questions, *told))
    vectors([*learnt.texts, *library.texts, *(text for text, _, _ in pairs)])
    found = cross_fitted(learnt, vectors(learnt.texts), np.random.default_rng(8))
    matcher = Matcher() if found is None else found[0]
    surface, embedded = Surface.of(library), vectors(library.texts)
    similar = np.array([question in told for question in library.questions])
    texts = [library.texts[at] for at in surface.asked]
    tried = Tried()
    for start in range(0, len(pairs), _AT_ONCE):
        part = pairs[start : start + _AT_ONCE]
        asked, truth = [text for text, _, _ in part], np.array([names.index(category) for _, category, _ in part])
        searched = matcher.searched(surface, vectors(asked), asked, embedded)
        before = np.tile(similar, (len(part), 1))
        after = before & (np.array([best for _, _, best in part])[:, None] != np.array(texts)[None, :])
        tried.add("before", searched.features(surface, without=before), matcher.weights, truth)
        tried.add("after", searched.features(surface, without=after), matcher.weights, truth)
    return tried.places("before") < 1, tried.places("after") < 1, len(pairs) / len(drawn)


def _common(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 0.0
