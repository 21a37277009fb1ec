"""The closed forms that a fast training can end in, by the head that the card names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.class_sums import ClassRows, PlainSums
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.head import HeadWeights, Priors, RowFeatures
from perennial.continual.learning.kernel_lda import Discriminant, KernelLda
from perennial.continual.learning.lexical import LexicalFeatures
from perennial.continual.learning.normal_equations import USUAL_TEMPERATURE, Penalty
from perennial.continual.learning.open_set import FALSE_REFUSALS, check_false_refusals
from perennial.continual.learning.ridge import Ridge
from perennial.continual.learning.selection import (
    GAMMAS,
    HeldOut,
    choose_gamma,
    choose_penalty,
    choose_shrinkage,
    default_penalty,
    default_shrinkage,
    narrow_scores,
)
from perennial.continual.learning.sums import Sums

__all__ = ["CLOSED_FORMS", "GROWN", "ClassesLearner", "ClosedForm", "FastSettings", "FirstLook"]

GROWN = 2  # settings are chosen anew once so many times the rows are in
_ALONE, _BESIDE_WORDS = 3000, 2500  # features of an encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class FastSettings:
    """The `params` of a closed form's job; None means chosen by held-out rows.

    >>> FastSettings().lexical
    3600
    """

    features: int | None = None  # of the encoder; 3000 for a kernel LDA, 2500 beside words
    gamma: float | None = None
    shrinkage: float | None = None
    priors: Priors | None = None  # those of a kernel LDA are uniform then
    anchor_rows: int = 5
    descriptions: dict[str, str] | None = None  # class -> what it means; None keeps those of the previous model
    lexical: int = 3600  # columns of words and letters; a kernel LDA has none
    words: float | None = None  # what they count beside the embedding
    bounded: bool = False  # features of bounded length in place of drawn ones, for sums that are sent with noise
    sketches: int = 4  # of a ridge; each has half of `features` and `lexical` then, and the sums stay as large
    false_refusals: float = FALSE_REFUSALS  # share of known texts that may count as of no class; 0: none ever does

    def __post_init__(self) -> None:
        if self.sketches < 1:
            raise ConfigurationError(f"sketches is {self.sketches}; it must be at least 1, e.g. 4")

    @property
    def fixed(self) -> bool:
        """Whether a setting is told that held-out rows would otherwise choose in every update."""
        return any(value is not None for value in (self.shrinkage, self.priors, self.words))

    @property
    def words_and_letters(self) -> LexicalFeatures:
        """How a ridge reads them."""
        return LexicalFeatures.of_size(max(2, round(self.lexical / np.sqrt(self.sketches))), self.sketches)

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "FastSettings":
        """Settings out of a spec.

        Raises:
            ConfigurationError: a name or a value is not known.
        """
        unknown = sorted(params.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise ConfigurationError(f"params {unknown} are not known; known: {sorted(cls.__dataclass_fields__)}")
        check_false_refusals(params.get("false_refusals", FALSE_REFUSALS))
        try:
            priors = params.get("priors")
            return cls(**{**params, "priors": None if priors is None else Priors(priors)})
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"params {params}: {error}") from error


class ClassesLearner(Sums[ClassRows, Any, HeadWeights], Protocol):
    """Sums that tell classes apart; a class may begin with stand-in rows."""

    features: FourierFeatures

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that have rows or anchors, in the order of the logits."""
        ...

    @property
    def plain(self) -> PlainSums | None:
        """What the embeddings themselves sum to, where that is kept."""
        ...

    @property
    def anchor_means(self) -> Mapping[str, NDArray[np.float64]]:
        """The mean embedding of each class's stand-in rows, (d,), where it is known."""
        ...

    def anchor(self, label: str, rows: ClassRows) -> None:
        """Give a class stand-in rows, which `solve` uses until enough real ones have come."""
        ...

    def seen(self, rows: ClassRows) -> RowFeatures:
        """Rows as every head of these sums sees them."""
        ...

    def drop_anchors(self) -> None:
        """Take every class's stand-in rows away."""
        ...

    def solve_with(self, more: ClassRows, settings: Any) -> tuple[HeadWeights, HeadWeights]:
        """The head for what is in now, and the one that has learnt `more` too, which do not come in.

        Raises:
            DataError: nothing has been learnt, or a row is of a class that is not in.
        """
        ...

    def copy(self) -> Self:
        """Sums of their own with the same values."""
        ...


class ClosedForm(Protocol):
    """How one kind of sums is made, read, and solved by settings that held-out rows choose."""

    @property
    def head(self) -> str:
        """What the card calls the head."""
        ...

    @property
    def least_squares(self) -> bool:
        """Whether its scores estimate probabilities themselves, not their logarithms; see `Link`."""
        ...

    @property
    def usual_temperature(self) -> float:
        """What the solved scores are divided by where no row tells."""
        ...

    def make(self, settings: FastSettings, learnt: ClassRows, held_out: HeldOut, *, dimension: int, seed: int) -> Any:
        """Empty sums; where the bandwidth is open and there are held-out rows, they choose it."""
        ...

    def load(self, path: Path) -> Any:
        """Saved sums.

        Raises:
            DataError: the file is missing or of another kind.
        """
        ...

    def choose(self, sums: Any, settings: FastSettings, held_out: HeldOut, before: Mapping[str, Any]) -> Any:
        """What to solve with: as told, else by the held-out rows, else as `before`, the previous card's settings."""
        ...


@dataclass(frozen=True, slots=True)
class _KernelLda:
    head: str = "kernel_lda"
    least_squares: bool = False
    usual_temperature: float = 1.0

    def make(
        self, settings: FastSettings, learnt: ClassRows, held_out: HeldOut, *, dimension: int, seed: int
    ) -> KernelLda:
        if settings.bounded:
            return KernelLda(FourierFeatures.bounded(dimension=dimension, seed=seed))
        gamma, size = settings.gamma, settings.features or _ALONE
        if gamma is None and held_out.labels:
            priors = settings.priors or Priors.UNIFORM
            gamma = choose_gamma(learnt, held_out, features=size, seed=seed, priors=priors)
        return KernelLda(FourierFeatures.make(dimension=dimension, features=size, gamma=gamma or GAMMAS[0], seed=seed))

    def load(self, path: Path) -> KernelLda:
        return KernelLda.load(path)

    def choose(
        self, sums: KernelLda, settings: FastSettings, held_out: HeldOut, before: Mapping[str, Any]
    ) -> Discriminant:
        priors = settings.priors or Priors.UNIFORM
        if settings.shrinkage is not None:
            shrinkage = settings.shrinkage
        elif held_out.labels:
            shrinkage = choose_shrinkage(sums, held_out, priors=priors)
        else:
            shrinkage = float(before.get("shrinkage") or default_shrinkage(sums.rows))
        return Discriminant(shrinkage=shrinkage, priors=priors, anchor_rows=settings.anchor_rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLook:
    """A kernel LDA with few features on a sample: how it would do, for a tenth of what it costs with all of them.

    >>> FirstLook.at.__name__
    'at'
    """

    learnt: ClassRows
    gamma: float  # the one that it would have with all features
    features: int
    seed: int
    priors: Priors

    @classmethod
    def at(cls, learnt: ClassRows, held_out: HeldOut, *, settings: FastSettings, seed: int) -> Self:
        """The look at these rows; the bandwidth is told or chosen by those held out."""
        priors, size, gamma = settings.priors or Priors.UNIFORM, settings.features or _ALONE, settings.gamma
        if gamma is None:
            gamma = choose_gamma(learnt, held_out, features=size, seed=seed, priors=priors)
        return cls(learnt=learnt, gamma=gamma, features=size, seed=seed, priors=priors)

    def scores(self, known: HeldOut, order: Sequence[str]) -> NDArray[np.float64]:
        """See `row_scores`: of held-out rows of the classes in `order`."""
        how: dict[str, Any] = {"gamma": self.gamma, "features": self.features, "seed": self.seed, "priors": self.priors}
        return narrow_scores(self.learnt, known, order, **how)


@dataclass(frozen=True, slots=True)
class _Ridge:
    head: str = "ridge"
    least_squares: bool = True
    usual_temperature: float = USUAL_TEMPERATURE

    def make(self, settings: FastSettings, learnt: ClassRows, held_out: HeldOut, *, dimension: int, seed: int) -> Ridge:
        del learnt, held_out  # the bandwidth matters less than the penalty
        sketches, share = settings.sketches, 1.0 / np.sqrt(settings.sketches)
        fourier = FourierFeatures.make(
            dimension=dimension,
            features=sketches * max(1, round((settings.features or _BESIDE_WORDS) * share)),
            gamma=settings.gamma or GAMMAS[0],
            seed=seed,
        )
        return Ridge(fourier, settings.words_and_letters)

    def load(self, path: Path) -> Ridge:
        return Ridge.load(path)

    def choose(self, sums: Ridge, settings: FastSettings, held_out: HeldOut, before: Mapping[str, Any]) -> Penalty:
        usual = default_penalty(sums)
        if not held_out.labels:
            usual = Penalty(
                shrinkage=float(before.get("shrinkage", usual.shrinkage)),
                words=float(before.get("words", usual.words)),
                priors=Priors(before.get("priors", usual.priors)),
            )
        start = Penalty(
            shrinkage=usual.shrinkage if settings.shrinkage is None else settings.shrinkage,
            words=usual.words if settings.words is None else settings.words,
            priors=usual.priors if settings.priors is None else settings.priors,
            anchor_rows=settings.anchor_rows,
        )
        free = [name for name in ("shrinkage", "words", "priors") if getattr(settings, name) is None]
        return choose_penalty(sums, held_out, start, free=free)


CLOSED_FORMS: Mapping[str, ClosedForm] = {form.head: form for form in (_KernelLda(), _Ridge())}
