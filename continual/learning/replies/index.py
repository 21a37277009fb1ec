"""A library at one revision as a version searches it: the replies for a message, each with its probability."""

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from perennial.continual.learning.replies.features import FEATURES, Floats, Surface
from perennial.continual.learning.replies.library import Library, Reply, key_of
from perennial.continual.learning.replies.matcher import Matcher

__all__ = ["LibraryIndex", "Past", "Suggested", "Wanted"]

_AT = {name: place for place, name in enumerate(FEATURES)}
_SMOOTHING = 2.0  # as if so many more had been seen, as usual as anywhere
_SAID = {
    "question_same": "just this question was approved",
    "question": "an approved question is {:.2f} alike",
    "question_words": "{:.0%} of the words are in an approved question",
    "answer": "its text is {:.2f} alike",
    "asked_answer": "its text is {:.2f} alike",
    "answer_words": "{:.0%} of the words are in its text",
    "asked_answer_words": "{:.0%} of the words are in its text",
    "refused": "it was refused for a question {:.2f} alike",
    "follows": "its intent is {:.1f} times as usual after the last one",
    "habit": "its intent is {:.1f} times as usual with this customer",
}
_MOST_REASONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """How often each intent was settled: with anybody, after the last intent, and with this customer."""

    overall: Mapping[str, int] = field(default_factory=dict)
    after: Mapping[str, int] = field(default_factory=dict)
    customer: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wanted:
    """One message with what a version made of it: embedding (d,), and its probabilities of intents."""

    text: str
    embedding: Floats
    intents: Mapping[str, float]
    language: str = ""
    past: Past = field(default_factory=Past)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggested:
    """A reply for a message, how probably it is the right one, and why it was chosen."""

    reply: Reply
    sure: float
    reason: str


class LibraryIndex:
    """Texts of a library beside their embeddings, of which some may come later; without one, words decide.

    Safe to share between threads.
    """

    def __init__(self, library: Library, matcher: Matcher, before: "LibraryIndex | None" = None) -> None:
        """Whatever the index of an earlier revision, `before`, knows of the same texts is taken over."""
        self._surface: Surface = Surface.of(library, None if before is None else before._surface)
        self._matcher = matcher
        self._texts = self._surface.texts
        self._keys = [key_of(text) for text in self._texts]
        self._vectors: Floats | None = None
        self._made_of, self._lock = -1, threading.Lock()

    @property
    def revision(self) -> int:
        """The library's."""
        return self._surface.library.revision

    def without_vector(self, known: Mapping[str, Floats], most: int) -> list[str]:
        """Texts that have no embedding yet, at most so many."""
        pairs = zip(self._texts, self._keys, strict=True)
        found = (text for text, key in pairs if key not in known)
        return [text for text, _ in zip(found, range(most), strict=False)]

    def suggested(
        self, wanted: Sequence[Wanted], known: Mapping[str, Floats], *, at: datetime, most: int
    ) -> list[list[Suggested]]:
        """The likeliest replies to each message, the best first. `known` are embeddings by `key_of` the text."""
        library = self._surface.library
        if not wanted or not library.replies:
            return [[] for _ in wanted]
        embeddings = np.stack([one.embedding for one in wanted])
        searched = self._matcher.searched(
            self._surface, embeddings, [one.text for one in wanted], self._stacked(known, embeddings.shape[1])
        )
        features = searched.features(self._surface)
        for row, one in enumerate(wanted):
            self._add_priors(features[row], one)
        scores = self._matcher.scores(features)
        given = np.array([reply.valid(at) for reply in library.replies])
        spoken = np.array([reply.language for reply in library.replies])
        found = []
        for row, one in enumerate(wanted):
            allowed = given & ((spoken == "") | (spoken == one.language)) if one.language else given
            found.append(self._best(features[row], scores[row], allowed, most))
        return found

    def _best(self, features: Floats, scores: Floats, allowed: NDArray[np.bool_], most: int) -> list[Suggested]:
        places = np.flatnonzero(allowed)
        if not len(places):
            return []
        sure = self._matcher.probability(scores[places][None, :])[0]
        order = np.argsort(-scores[places], kind="stable")[:most]
        return [
            Suggested(
                reply=self._surface.library.replies[places[at]],
                sure=float(sure[at]),
                reason=self._reason(features[places[at]]),
            )
            for at in order
        ]

    def _reason(self, features: Floats) -> str:
        """What spoke most for the reply, or against it."""
        weighed = features * self._matcher.weights
        order = sorted(_SAID, key=lambda name: -abs(float(weighed[_AT[name]])))
        said = []
        for name in order[:_MOST_REASONS]:
            value = float(features[_AT[name]])
            if abs(value) > 1e-3:
                said.append(_SAID[name].format(math.exp(value) if name in {"follows", "habit"} else value))
        return "; ".join(said)

    def _add_priors(self, features: Floats, one: Wanted) -> None:
        least = 1.0 / (10 * (len(one.intents) or 1))
        past = one.past
        seen: dict[str, tuple[float, float, float]] = {}
        for place, reply in enumerate(self._surface.library.replies):
            if reply.intent not in seen:
                known = one.intents.get(reply.intent)
                seen[reply.intent] = (
                    math.log(least if known is None else max(known, least)),
                    _lift(reply.intent, past.after, past.overall),
                    _lift(reply.intent, past.customer, past.overall),
                )
            features[place, -3:] = seen[reply.intent]

    def _stacked(self, known: Mapping[str, Floats], dimension: int) -> Floats:
        """The embeddings of all texts (texts, d), zeros where there is none; made again when there are more."""
        with self._lock:
            if self._vectors is None or self._made_of != len(known):
                self._made_of = len(known)
                nothing = np.zeros(dimension, dtype=np.float32)
                self._vectors = np.stack([known.get(key, nothing) for key in self._keys])
            return self._vectors


def _lift(intent: str, here: Mapping[str, int], overall: Mapping[str, int]) -> float:
    """The log of how much more usual an intent is here than anywhere; 0 where nothing is known."""
    seen, whole = sum(here.values()), sum(overall.values())
    if not seen or not whole:
        return 0.0
    usual = (overall.get(intent, 0) + 1.0) / (whole + len(overall) + 1.0)
    return math.log((here.get(intent, 0) + _SMOOTHING * usual) / (seen + _SMOOTHING) / usual)
