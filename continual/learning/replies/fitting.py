"""Weights learnt of pairs of question and reply, each pair answered as if its own question were not approved."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from perennial.continual.learning.replies.features import Floats, Searched, Surface
from perennial.continual.learning.replies.library import Library, key_of, proves
from perennial.continual.learning.replies.matcher import Matcher, to_answers
from perennial.continual.learning.replies.tried import Tried
from perennial.continual.learning.replies.weighing import Rivals, fitted_weights

__all__ = ["FitSettings", "cross_fitted", "fit_matcher"]

Doubles = NDArray[np.float64]
Places = NDArray[np.intp]
_SHARPNESS = 20.0  # of cosines, where the way to answers is learnt
_CELLS = 4_000_000  # pairs times replies that are looked at
_BLOCK = 250  # pairs at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How weights are learnt. `penalty` draws them to the usual ones, `shrinkage` the way to answers to nothing.

    >>> FitSettings().folds
    4
    """

    folds: int = 4
    shrinkage: float = 0.01
    penalty: float = 1e-3
    least: int = 40  # pairs, below which the usual weights stay
    most: int = 2000
    rivals: int = 120  # replies beside the right one: half the best by the usual weights, half drawn of all others
    steps: int = 30


def fit_matcher(
    library: Library, vectors: Floats, rng: np.random.Generator, settings: FitSettings | None = None
) -> Matcher:
    """The matcher of a library whose `texts` have these embeddings (texts, d), with its figures on pairs left out."""
    kept = dict(zip(map(key_of, library.texts), vectors, strict=True))
    found = cross_fitted(library, vectors, rng, settings)
    return Matcher(vectors=kept) if found is None else replace(found[0], vectors=kept)


def cross_fitted(
    library: Library, vectors: Floats, rng: np.random.Generator, settings: FitSettings | None = None
) -> tuple[Matcher, Tried] | None:
    """A matcher without embeddings, and what became of each pair left out; None where there are too few pairs.

    Pairs of a fold are answered by what the other folds taught; no reply is in two folds. Each pair counts in the
    situations that a desk is in: `cold`, with nothing approved, so that a new reply is matched by its text; `growing`,
    with the questions that came before it, in an order by chance, which tells how often a reply with approved questions
    is asked for again; and `warm`, with all but its own question, where its reply has another one.
    """
    how = settings or FitSettings()
    surface = Surface.of(library)
    if len(surface.asked) < how.least:
        return None
    most = min(how.most, max(how.least, _CELLS // len(library.replies)))
    pairs = _Pairs.of(surface, vectors, rng, most)
    replies, reply = np.unique(pairs.truth, return_inverse=True)
    if len(replies) < how.folds:
        return None
    fold = (rng.permutation(len(replies)) % how.folds)[reply]  # none is empty
    mapped = np.zeros_like(pairs.found.meaning)
    for each in range(how.folds):
        out = fold == each
        mapped[out] = to_answers(pairs.questions[out], pairs.way(~out, how)) @ vectors.T
    pairs = replace(pairs, found=replace(pairs.found, mapped=mapped))
    counted = pairs.counted()
    rows = np.concatenate(list(counted.values()))
    rivals = Rivals.joined(
        [
            Rivals.of(features, pairs.truth[part], how.rivals, rng)
            for name, each in counted.items()
            for part, features in pairs.blocks(name, each)
        ]
    )
    tried = Tried()
    for each in range(how.folds):
        weights = fitted_weights(rivals.at(fold[rows] != each), how.penalty)
        for name, among in counted.items():
            for part, features in pairs.blocks(name, among[fold[among] == each]):
                tried.add(name, features, weights, pairs.truth[part])
    slope, shift = tried.link()

    def learnt(which: NDArray[np.bool_]) -> Matcher:
        weights = fitted_weights(rivals.at(which[rows]), how.penalty)
        return Matcher(weights=weights, way=pairs.way(which, how), slope=slope, shift=shift)

    unproving = pairs.unproving()  # what proves a version is in the folds alone: there it tells how sure weights are
    matcher = replace(
        learnt(np.ones(len(pairs.truth), dtype=np.bool_)),
        proved=learnt(unproving) if unproving.sum() >= how.least else None,
        metrics={"pairs": float(len(pairs.truth)), "warm_pairs": float(len(counted["warm"])), **tried.recalls()},
    )
    return matcher, tried


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pairs:
    """Approved questions, by their places among all of them, with their replies."""

    surface: Surface
    vectors: Floats
    asked: Places  # (pairs,) of the questions' texts
    truth: Places  # (pairs,) of the replies
    came: Doubles  # (asked,) when each approved question of the surface came, by chance
    own: Doubles  # (pairs,) when the pair's own did
    found: Searched

    @classmethod
    def of(cls, surface: Surface, vectors: Floats, rng: np.random.Generator, most: int) -> "_Pairs":
        """At most so many, drawn by chance."""
        chosen, came = rng.permutation(len(surface.asked))[:most], rng.random(len(surface.asked))
        asked, texts = surface.asked[chosen], surface.library.texts
        words, letters, same = surface.found([texts[place] for place in asked])
        meaning = vectors[asked] @ vectors.T
        return cls(
            surface=surface,
            vectors=vectors,
            asked=asked,
            truth=surface.owners[chosen],
            came=came,
            own=came[chosen],
            found=Searched(meaning=meaning, mapped=meaning, words=words, letters=letters, same=same),
        )

    @property
    def questions(self) -> Floats:
        """Their embeddings (pairs, d)."""
        return self.vectors[self.asked]

    def unproving(self) -> NDArray[np.bool_]:
        """Whether a pair proves no version."""
        texts = self.surface.library.texts
        return np.array([not proves(texts[place]) for place in self.asked], dtype=np.bool_)

    def counted(self) -> dict[str, Places]:
        """The pairs of each situation. A warm pair's reply has another approved question than the pair's own text."""
        owned = self.truth[:, None] == self.surface.owners[None, :]
        again = (owned & (self.asked[:, None] != self.surface.asked[None, :])).any(axis=1)
        everything = np.arange(len(self.truth))
        return {"cold": everything, "growing": everything, "warm": np.flatnonzero(again)}

    def blocks(self, situation: str, rows: Places) -> Iterator[tuple[Places, Floats]]:
        """Features of some pairs, some at a time."""
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK]
            yield part, self._features(situation, part)

    def _features(self, situation: str, rows: Places) -> Floats:
        found = Searched(**{name: getattr(self.found, name)[rows] for name in Searched.__dataclass_fields__})
        same = self.asked[rows, None] == self.surface.asked[None, :]  # the same text for another reply tells it too
        refused = self.asked[rows, None] == self.surface.refused[None, :]
        if situation != "warm":  # what a refusal tells is learnt beside all approved questions, as it was given
            refused = np.ones_like(refused)
        if situation == "cold":
            same = np.ones_like(same)
        elif situation == "growing":
            same = same | (self.came[None, :] >= self.own[rows, None])
        return found.features(self.surface, without=same, without_refused=refused)

    def way(self, rows: NDArray[np.bool_], how: FitSettings) -> Floats:
        """A matrix (d, d) by which questions come nearer to their own answers than to those of the other rows."""
        from scipy.optimize import minimize  # 27 MB, which whoever only reads a matcher need not have

        replies, right = np.unique(self.truth[rows], return_inverse=True)
        X = self.questions[rows].astype(np.float64)
        A = self.vectors[self.surface.answers[replies]].astype(np.float64)
        plain, each = _SHARPNESS * X @ A.T, np.arange(len(X))
        _, sizes, turned = np.linalg.svd(A, full_matrices=False)
        basis = turned[sizes > 1e-9 * sizes.max()]  # (k, d): the way leads to no place outside of what answers span
        A = A @ basis.T

        def loss(flat: Doubles) -> tuple[float, Doubles]:
            way = flat.reshape(X.shape[1], -1)
            scores = plain + _SHARPNESS * (X @ way) @ A.T
            shares = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
            value = -np.log(np.maximum(shares[each, right], 1e-30)).mean() + how.shrinkage * float((way**2).sum())
            shares[each, right] -= 1.0
            slope = _SHARPNESS * X.T @ (shares @ A) / len(X) + 2 * how.shrinkage * way
            return float(value), slope.ravel()

        start = np.zeros(X.shape[1] * len(basis))
        found = minimize(
            loss, start, jac=True, method="L-BFGS-B", options={"maxiter": how.steps, "gtol": 1e-9, "ftol": 1e-9}
        )
        way: Floats = (found.x.reshape(X.shape[1], -1) @ basis).astype(np.float32)
        return way
