"""A library over time: replies come, change, get other names; one desk learns at once, its twin stays as it was."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import record
from benchmarks.service_data import Vectors
from perennial.continual.intervals import paired_bootstrap
from perennial.continual.learning.replies import Library, Matcher, Question, Reply, Surface, fit_matcher

__all__ = ["live_stream"]

_PARTS = 8
_LATE = 0.3  # of the replies are not there at the beginning
_RENAMED = (
    ("NetBanking", "HomeDesk"),
    ("Credit Card", "Zenith Plate"),
    ("Debit Card", "Nova Plate"),
    ("top up", "Zap load"),
    ("card", "Nova plate"),
)


def live_stream(name: str, library: Library, vectors: Vectors, rng: np.random.Generator) -> dict[str, Any]:
    """R@1 of a desk whose accepted answers count at once, beside one that stays as it began.

    A desk gains by approved questions as far as the same thing is asked again, in other words.
    """
    replies = list(library.replies)
    late = set(rng.permutation(len(replies))[: int(_LATE * len(replies))].tolist())
    comes = {replies[number].id: 1 + int(rng.integers(_PARTS - 2)) for number in late}
    order = rng.permutation(len(library.questions))
    begun, asked = order[: len(order) // 4], order[len(order) // 4 :]
    known = [q for q in (library.questions[at] for at in begun) if q.reply not in comes]
    start = Library(replies=tuple(r for r in replies if r.id not in comes), questions=tuple(known))
    matcher = fit_matcher(start, vectors(start.texts), np.random.default_rng(5))
    live = list(known)
    hits: tuple[list[float], list[float]] = ([], [])
    waves: tuple[list[float], list[float]] = ([], [])
    for part, batch in enumerate(np.array_split(asked, _PARTS)):
        renamed = part >= _PARTS // 2
        there = tuple(_renamed(r, renamed) for r in replies if comes.get(r.id, 0) <= part)
        ids = {reply.id for reply in there}
        questions = [q for q in (library.questions[at] for at in batch) if q.reply in ids]
        questions = [replace(q, text=_name(q.text)) if renamed else q for q in questions]
        if not questions:
            continue
        now = Library(replies=there, questions=tuple(dict.fromkeys(live)))
        for arm, known_by in enumerate((now, start)):
            right = _right(known_by, matcher, questions, vectors)
            hits[arm].extend(right)
            waves[arm].append(float(np.mean(right)))
        live += questions  # accepted answers
    gain = paired_bootstrap(np.array(hits[0]), np.array(hits[1]), np.random.default_rng(6))
    row = record.recipe(
        name,
        "R@1 ahead of the frozen twin",
        gain.mean,
        [round(gain.low, 4), round(gain.high, 4)],
        {"live": float(np.mean(hits[0])), "frozen": float(np.mean(hits[1]))},
    )
    return row | {"waves_live": waves[0], "waves_frozen": waves[1]}


def _right(library: Library, matcher: Matcher, questions: list[Question], vectors: Vectors) -> list[float]:
    """Whether the best reply is the right one, a question each."""
    surface = Surface.of(library)
    texts = [question.text for question in questions]
    embedded = vectors(texts)
    scores: NDArray[np.float32] = matcher.scores(
        matcher.searched(surface, embedded, texts, vectors(library.texts)).features(surface)
    )
    best = scores.argmax(axis=1)
    pairs = zip(best.tolist(), questions, strict=True)
    return [float(library.replies[at].id == question.reply) for at, question in pairs]


def _renamed(reply: Reply, changed: bool) -> Reply:
    return replace(reply, text=_name(reply.text)) if changed else reply


def _name(text: str) -> str:
    for old, new in _RENAMED:
        text = text.replace(old, new)
    return text
