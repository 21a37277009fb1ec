"""Bandwidth and shrinkage of a kernel head, chosen by rows it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.learning.calibration import fit_temperature, log_losses, places_of
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.head import HeadWeights, Priors
from perennial.continual.learning.kernel_lda import Discriminant, KernelLda
from perennial.continual.learning.lapack import on_each
from perennial.continual.learning.normal_equations import Penalty, together
from perennial.continual.learning.ridge import Ridge

__all__ = [
    "GAMMAS",
    "SHRINKAGES",
    "HeldOut",
    "choose_gamma",
    "choose_penalty",
    "choose_shrinkage",
    "clearly_lower",
    "default_penalty",
    "default_shrinkage",
    "narrow_scores",
    "row_scores",
]

GAMMAS = (0.5, 0.25, 1.0)  # the first is kept unless another is clearly better
SHRINKAGES = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
_COARSE = SHRINKAGES[::2]
_NARROW = 1000  # Fourier features to choose with
_MOST_ROWS = 4000  # rows to choose the bandwidth with
_CLEARLY = 0.005
_LOSS_WEIGHT = 0.1
_NEVER = -1e3  # the logit of a class that a sample has missed
_MANY_ROWS = 2000
_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_WORDS = (0.0, 0.1, 0.3, 1.0)
_MANY_CLASSES = 30
_ERRORS = 2.0  # standard errors by which a setting must be better than the usual one


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Rows that no head has been fitted on.

    >>> HeldOut(X=np.zeros((0, 2)), labels=()).within(("a",)).labels
    ()
    """

    X: NDArray[np.floating[Any]]  # (rows, d)
    labels: tuple[str, ...]
    texts: tuple[str, ...] | None = None

    def within(self, labels: Sequence[str]) -> "HeldOut":
        """Only the rows of these classes."""
        known = set(labels)
        rows = [row for row, label in enumerate(self.labels) if label in known]
        return HeldOut(
            X=self.X[rows],
            labels=tuple(self.labels[row] for row in rows),
            texts=None if self.texts is None else tuple(self.texts[row] for row in rows),
        )


def default_shrinkage(rows: int) -> float:
    """What to use when there is nothing to choose with."""
    return 3e-6 if rows >= _MANY_ROWS else 1e-4


def choose_shrinkage(head: KernelLda, held_out: HeldOut, *, priors: Priors = Priors.UNIFORM) -> float:
    """The shrinkage to solve with: the default, unless held-out rows clearly like a neighbour better.

    All of SHRINKAGES are tried on the first thousand features, which is cheap but leans to strong shrinkage; the best
    of them, the default and the default's neighbours are then compared on all features: four or five solutions of the
    head, about 4 seconds for D = 3000. A value replaces the default when its mean score is lower by more than one
    standard error of the paired difference, so that a handful of held-out rows doesn't decide.

    The score of a row is its error plus a tenth of its log loss at the best temperature: errors decide, and among
    settings that err alike the better calibrated one wins.
    """
    known, default = held_out.within(head.labels), default_shrinkage(head.rows)
    if not known.labels:
        return default
    near = SHRINKAGES.index(default)
    among = {*SHRINKAGES[max(near - 1, 0) : near + 2], _best_shrinkage(head.narrowed(_NARROW), known, priors)[1]}
    scores = {
        value: _scores(head.solve(Discriminant(shrinkage=value, priors=priors)), known) for value in sorted(among)
    }
    best = min(scores, key=lambda value: float(scores[value].mean()))
    gain = scores[default] - scores[best]
    return best if gain.mean() > gain.std() / np.sqrt(len(gain)) else default


def default_penalty(sums: Ridge) -> Penalty:
    """What to use when there is nothing to choose with: many narrow classes bear less shrinkage than few broad ones.

    Priors are uniform: least squares hides a class with few rows behind those with many, and so it is found.
    """
    many = len(sums.labels) >= _MANY_CLASSES
    shrinkage, words = (0.03, 0.3) if many else (0.5, 1.0)
    return Penalty(shrinkage=shrinkage, words=words, priors=Priors.UNIFORM)


def choose_penalty(sums: Ridge, held_out: HeldOut, start: Penalty, *, free: Sequence[str]) -> Penalty:
    """The penalty to solve with: `start`, unless held-out rows clearly like a neighbour better.

    Shrinkage, then the weight of words, walk along their grids as long as a step lowers the mean score of the rows by
    more than two standard errors of the paired difference: of so many steps that could be taken, one by one standard
    error is taken by chance too often. See `choose_shrinkage` for the score. At rest that is four regressions; one more
    tells whether the other priors are better.
    """
    known = held_out.within(sums.labels)
    if not known.labels:
        return start
    features = sums.mapped(ClassRows(X=known.X, labels=known.labels, texts=known.texts))
    equations = sums.equations(start.anchor_rows)
    tried: dict[Penalty, NDArray[np.float64]] = {}

    def scores_of(penalty: Penalty) -> NDArray[np.float64]:
        if penalty not in tried:
            solved = together(on_each(lambda part: part.solved(penalty, precise=False), equations))
            tried[penalty] = row_scores(solved.scores(features), places_of(known.labels, solved.labels))
        return tried[penalty]

    best = start
    for name, grid in (("shrinkage", _PENALTIES), ("words", _WORDS)):
        for step in (+1, -1) if name in free else ():
            while (value := _neighbour(grid, getattr(best, name), step)) is not None:
                beside = replace(best, shrinkage=value) if name == "shrinkage" else replace(best, words=value)
                if not clearly_lower(scores_of(beside), scores_of(best)):
                    break
                best = beside
    if "priors" in free:
        turned = replace(best, priors=Priors.UNIFORM if best.priors is Priors.EMPIRICAL else Priors.EMPIRICAL)
        best = turned if clearly_lower(scores_of(turned), scores_of(best)) else best
    return best


def clearly_lower(scores: NDArray[np.float64], than: NDArray[np.float64]) -> bool:
    """By more than two standard errors of the paired difference, so that a handful of rows doesn't decide."""
    gain = than - scores
    return bool(gain.mean() > _ERRORS * gain.std() / np.sqrt(len(gain)))


def _neighbour(grid: Sequence[float], value: float, step: int) -> float | None:
    """The next value of a grid above or below one that need not be on it."""
    beyond = [other for other in grid if (other - value) * step > 0]
    return (min if step > 0 else max)(beyond, default=None)


def choose_gamma(
    learnt: ClassRows, held_out: HeldOut, *, features: int, seed: int, priors: Priors = Priors.UNIFORM
) -> float:
    """The kernel's gamma, chosen on a sample of at most 4,000 rows and a thousand features: some seconds.

    Once chosen it stays: the sums of a head cannot be carried over to another bandwidth.
    """
    sample, scores = _sampled(learnt, seed), []
    for gamma in GAMMAS:
        head = _narrow(sample, features=features, seed=seed, gamma=gamma)
        scores.append(_best_shrinkage(head, held_out.within(head.labels), priors, _COARSE)[0])
    best = int(np.argmin(scores))
    return GAMMAS[best] if scores[best] < scores[0] - _CLEARLY else GAMMAS[0]


def narrow_scores(
    learnt: ClassRows, known: HeldOut, order: Sequence[str], *, gamma: float, features: int, seed: int, priors: Priors
) -> NDArray[np.float64]:
    """`row_scores` of a kernel LDA with a thousand features and the shrinkage that suits it best: a second.

    Args:
        learnt: rows to learn, of which a sample is taken.
        known: held-out rows of the classes in `order`.
        order: the classes that are answered with, all of which have rows.
        gamma: the kernel's.
        features: so many at most.
        seed: of the draw and the sample.
        priors: of the head.
    """
    head = _narrow(_sampled(learnt, seed), features=features, seed=seed, gamma=gamma)
    shrinkage = _best_shrinkage(head, known.within(head.labels), priors, _COARSE)[1]
    solved = head.solve(Discriminant(shrinkage=shrinkage, priors=priors))
    logits = np.full((len(known.labels), len(order)), _NEVER)
    logits[:, places_of(solved.labels, order)] = solved.logits(known.X)
    return row_scores(logits, places_of(known.labels, order))


def _sampled(learnt: ClassRows, seed: int) -> ClassRows:
    rng = np.random.default_rng(seed)
    return learnt.at(np.sort(rng.permutation(len(learnt))[:_MOST_ROWS]))


def _narrow(sample: ClassRows, *, features: int, seed: int, gamma: float) -> KernelLda:
    """The sample learnt with a thousand features."""
    narrow, dimension = min(_NARROW, features), sample.X.shape[1]
    head = KernelLda(FourierFeatures.make(dimension=dimension, features=narrow, gamma=gamma, seed=seed))
    head.add(sample)
    return head


def _best_shrinkage(
    head: KernelLda, known: HeldOut, priors: Priors, among: Sequence[float] = SHRINKAGES
) -> tuple[float, float]:
    """The lowest mean score on rows of known classes, and the shrinkage that has it."""
    if not known.labels:
        return 0.0, default_shrinkage(head.rows)
    return min(
        (float(_scores(head.solve(Discriminant(shrinkage=value, priors=priors)), known).mean()), value)
        for value in among
    )


def _scores(head: HeadWeights, known: HeldOut) -> NDArray[np.float64]:
    """Error plus a tenth of the log loss of each row, (rows,); lower is better."""
    return row_scores(head.logits(known.X), places_of(known.labels, head.labels))


def row_scores(logits: NDArray[np.float64], truth: NDArray[np.intp]) -> NDArray[np.float64]:
    """Error plus a tenth of the log loss of each row at the best temperature, (rows,); lower is better."""
    losses = log_losses(logits, truth, fit_temperature(logits, truth))
    scores: NDArray[np.float64] = (logits.argmax(axis=1) != truth) + _LOSS_WEIGHT * losses
    return scores
