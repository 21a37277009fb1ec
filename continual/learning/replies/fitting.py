"""Weights learnt of pairs of question and reply, each pair answered as if its own question were not approved."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from perennial.continual.learning.replies.features import FEATURES, Floats, Searched, Surface
from perennial.continual.learning.replies.library import Library, key_of, proves
from perennial.continual.learning.replies.matcher import Matcher, scored, to_answers

__all__ = ["FitSettings", "Tried", "cross_fitted", "fit_matcher"]

Doubles = NDArray[np.float64]
Places = NDArray[np.intp]
_LEARNT = tuple(name for name in FEATURES if name not in {"intent", "follows", "habit"})
_COLUMNS = [FEATURES.index(name) for name in _LEARNT]
_SHARPNESS = 20.0  # of cosines, where the way to answers is learnt
_CELLS = 4_000_000  # pairs times replies that are looked at


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
    rivals: int = 60  # replies beside the right one, the best by the usual weights
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
) -> tuple[Matcher, "Tried"] | None:
    """A matcher without embeddings, and what became of each pair left out; None where there are too few pairs.

    Pairs of a fold are answered by what the other folds taught; no reply is in two folds. Every pair counts as if
    nothing were approved, so that a new reply is matched by its text. A pair whose reply has another question counts
    again, as if all but its own question were approved; of the others, the right reply would be known by having none.
    """
    how = settings or FitSettings()
    surface = Surface.of(library)
    if len(surface.asked) < how.least:
        return None
    most = min(how.most, max(how.least, _CELLS // len(library.replies)))
    pairs = _Pairs.of(surface, vectors, rng.permutation(len(surface.asked))[:most])
    replies, reply = np.unique(pairs.truth, return_inverse=True)
    if len(replies) < how.folds:
        return None
    fold = (rng.permutation(len(replies)) % how.folds)[reply]  # none is empty
    mapped = np.zeros_like(pairs.found.meaning)
    for each in range(how.folds):
        out = fold == each
        mapped[out] = to_answers(pairs.questions[out], pairs.way(~out, how)) @ vectors.T
    sets = pairs.situations(mapped)
    rows = {"cold": np.arange(len(pairs.truth)), "warm": np.flatnonzero(pairs.asked_again(sets["warm"]))}
    rivals = {name: _rivals(sets[name][at], pairs.truth[at], how.rivals) for name, at in rows.items()}
    tried = Tried()
    for each in range(how.folds):
        weights = _weights([kept[fold[rows[name]] != each] for name, kept in rivals.items()], how)
        for name, at in rows.items():
            out = at[fold[at] == each]
            tried.add(name, sets[name][out], weights, pairs.truth[out])
    slope, shift = tried.link()
    everything = np.ones(len(pairs.truth), dtype=np.bool_)
    unproving = (
        pairs.unproving()
    )  # what proves a version stays in the folds: there it only tells how sure the weights are

    def learnt(which: NDArray[np.bool_]) -> Matcher:
        weights = _weights([rival[which[rows[name]]] for name, rival in rivals.items()], how)
        return Matcher(weights=weights, way=pairs.way(which, how), slope=slope, shift=shift)

    matcher = replace(
        learnt(everything),
        proved=learnt(unproving) if unproving.sum() >= how.least else None,
        metrics={"pairs": float(len(pairs.truth)), "warm_pairs": float(len(rows["warm"])), **tried.recalls()},
    )
    return matcher, tried


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pairs:
    """Approved questions, by their places among all of them, with their replies."""

    surface: Surface
    vectors: Floats
    asked: Places  # (pairs,) of the questions' texts
    truth: Places  # (pairs,) of the replies
    found: Searched

    @classmethod
    def of(cls, surface: Surface, vectors: Floats, chosen: Places) -> "_Pairs":
        asked, texts = surface.asked[chosen], surface.library.texts
        words, letters = surface.found([texts[place] for place in asked])
        meaning = vectors[asked] @ vectors.T
        found = Searched(meaning=meaning, mapped=meaning, words=words, letters=letters)
        return cls(surface=surface, vectors=vectors, asked=asked, truth=surface.owners[chosen], found=found)

    @property
    def questions(self) -> Floats:
        """Their embeddings (pairs, d)."""
        return self.vectors[self.asked]

    def unproving(self) -> NDArray[np.bool_]:
        """Whether a pair proves no version."""
        texts = self.surface.library.texts
        return np.array([not proves(texts[place]) for place in self.asked], dtype=np.bool_)

    def situations(self, mapped: Floats) -> dict[str, Floats]:
        """Features of the pairs with no question approved, and with every other one."""
        found = replace(self.found, mapped=mapped)
        same = self.asked[:, None] == self.surface.asked[None, :]  # the same text for another reply tells it too
        refused = self.asked[:, None] == self.surface.refused[None, :]
        return {
            "cold": found.features(self.surface, without=np.ones_like(same), without_refused=np.ones_like(refused)),
            "warm": found.features(self.surface, without=same, without_refused=refused),
        }

    def asked_again(self, warm: Floats) -> NDArray[np.bool_]:
        """Whether a pair's reply has another approved question than the pair's own, by its features."""
        told: NDArray[np.bool_] = warm[np.arange(len(self.truth)), self.truth, FEATURES.index("asked")] > 0
        return told

    def way(self, rows: NDArray[np.bool_], how: FitSettings) -> Floats:
        """A matrix (d, d) by which questions come nearer to their own answers than to those of the other rows."""
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


class Tried:
    """What became of pairs that the weights had not seen, by situation: `cold`, and `warm` where there are any."""

    def __init__(self) -> None:
        self._places: dict[str, list[Places]] = {}
        self._sure: dict[str, list[tuple[Doubles, NDArray[np.bool_]]]] = {}

    def add(self, name: str, features: Floats, weights: Floats, truth: Places) -> None:
        """Rank some pairs of a situation."""
        if not len(truth):
            return
        scores, rows = scored(features, weights), np.arange(len(truth))
        places = (scores > scores[rows, truth][:, None]).sum(axis=1)
        self._places.setdefault(name, []).append(places)
        best = scores.argmax(axis=1)
        self._sure.setdefault(name, []).append((_shares(scores)[rows, best], best == truth))

    def places(self, name: str) -> Places:
        """How many replies came before the right one, a pair each."""
        return np.concatenate(self._places.get(name, [np.zeros(0, dtype=np.intp)]))

    def sure(self, name: str) -> tuple[Doubles, NDArray[np.bool_]]:
        """The share of the best reply among all, and whether it was right, each pair of a situation once."""
        nothing = (np.zeros(0), np.zeros(0, dtype=np.bool_))
        shares, hits = zip(*self._sure.get(name, [nothing]), strict=True)
        return np.concatenate(shares), np.concatenate(hits)

    def recalls(self) -> dict[str, float]:
        """The share of pairs whose reply was among the first, by situation."""
        names = list(self._places)
        return {f"{name}_recall_{k}": float((self.places(name) < k).mean()) for name in names for k in (1, 3, 10)}

    def link(self) -> tuple[float, float]:
        """Slope and shift by which the log odds of the best share become those of being right.

        Source: Platt, "Probabilistic outputs for support vector machines", 1999.
        """
        shares, hits = map(np.concatenate, zip(*map(self.sure, self._sure), strict=True))
        shares = np.clip(shares, 1e-6, 1 - 1e-6)
        X = np.stack([np.log(shares / (1 - shares)), np.ones(len(shares))], axis=1)
        start = np.array([0.5, 0.0])

        def loss(w: Doubles) -> tuple[float, Doubles]:
            odds = X @ w
            value = np.logaddexp(0.0, odds).sum() - odds[hits].sum() + ((w - start) ** 2).sum() / 2
            return float(value), X.T @ (expit(odds) - hits) + (w - start)

        slope, shift = minimize(loss, start, jac=True, method="L-BFGS-B").x
        return float(max(slope, 1e-3)), float(shift)


def _weights(rivals: list[Floats], how: FitSettings) -> Floats:
    """Weights under which the right reply, the first of its rivals, is the likeliest of them: a conditional logit."""
    X = np.concatenate([features[:, :, _COLUMNS] for features in rivals]).astype(np.float64)
    learnt = Matcher().weights.copy()
    start = learnt[_COLUMNS].astype(np.float64)

    def loss(w: Doubles) -> tuple[float, Doubles]:
        shares = _shares(X @ w)
        slope = (np.matmul(shares[:, None, :], X)[:, 0] - X[:, 0]).mean(axis=0) + how.penalty * (w - start)
        value = -np.log(np.maximum(shares[:, 0], 1e-300)).mean() + how.penalty / 2 * ((w - start) ** 2).sum()
        return float(value), slope

    learnt[_COLUMNS] = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return learnt


def _rivals(features: Floats, truth: Places, most: int) -> Floats:
    """The features of the right reply, and of the best others by the usual weights (rows, 1 + most, features)."""
    rows, replies, _ = features.shape
    usual: Mapping[str, float] = dict(zip(FEATURES, Matcher().weights.tolist(), strict=True))
    weights = np.array([usual[name] or 10.0 * (name == "answer_mapped") for name in FEATURES], dtype=np.float32)
    scores = scored(features, weights)
    each = np.arange(rows)
    scores[each, truth] = np.inf
    most = min(most, replies - 1)
    places = np.argpartition(-scores, most, axis=1)[:, : most + 1]
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1)
    chosen: Floats = features[each[:, None], np.take_along_axis(places, order, axis=1)]
    return chosen


def _shares(scores: NDArray[np.floating[Any]]) -> Doubles:
    shares: Doubles = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares
