"""The fast learner that reads words too: ridge regression on an encoder's kernel features beside lexical ones."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.calibration import places_of
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.head import HeadWeights
from perennial.continual.learning.lexical import LexicalFeatures
from perennial.continual.learning.normal_equations import NormalEquations, Penalty, Regression, Solver
from perennial.continual.learning.sums import SumsFile

__all__ = ["Ridge"]

_FORMAT = "perennial-ridge-1"
_USUAL = Penalty()
Floats = NDArray[np.float64]


class Ridge(AnchoredSums):
    """Least squares to 1 for a row's class and -1 for all others, kept as sums in float64.

    The features are random Fourier features of the embedding and hashed words and letters of the text. Rows are
    added, taken back and merged exactly as in `KernelLda`; neither a row nor a vocabulary is stored.

    Memory is 8 D^2 + 8 C D bytes for D = 3000 Fourier and 3072 lexical features: 299 MB with 77 classes, half of it
    on disk. Solving takes as much again.

    >>> head = Ridge(FourierFeatures.make(dimension=2, features=64, gamma=0.5, seed=0), LexicalFeatures.of_size(64))
    >>> head.add(ClassRows(X=np.array([[1.0, 0.0], [0.0, 1.0]]), labels=["yes", "no"], texts=["of course", "never"]))
    2
    >>> weights = head.solve()
    >>> weights.labels[int(weights.logits(np.array([[0.9, 0.1]]), ["course"]).argmax())]
    'yes'
    """

    def __init__(self, features: FourierFeatures, lexical: LexicalFeatures) -> None:
        super().__init__(features, features.size + lexical.size)
        self.lexical = lexical

    def mapped(self, rows: ClassRows) -> Floats:
        """Features of rows, (rows, D): those of the encoder first."""
        return np.concatenate([self.features(rows.X), self.lexical(rows.texts or [])], axis=1)

    def merge(self, other: "Ridge") -> None:
        """Adds all that `other` has learnt.

        Raises:
            DataError: it maps to other features, or shares keyed rows with this one.
        """
        if not self.features.same_as(other.features) or self.lexical != other.lexical:
            raise DataError("the two regressions use different features; make both with the same seed, gamma and sizes")
        self._take_over(other)

    def anchor(self, label: str, rows: ClassRows) -> None:
        """Gives a class stand-in rows, which `solve` uses until enough real ones have come."""
        self._check(rows)
        self._anchors[label] = self.mapped(rows)  # their features: no text stays
        self._anchor_means[label] = rows.X.mean(axis=0, dtype=np.float64)

    def equations(self, anchor_rows: int = _USUAL.anchor_rows) -> NormalEquations:
        """What a penalty is put on. It shares the memory of the sums: solve it before they change.

        A class with n real rows has max(0, anchor_rows - n) rows' worth of its anchors in it.

        Raises:
            DataError: nothing has been learnt.
        """
        stood_in = self._sums.with_stand_ins(self._anchors, anchor_rows)
        if not stood_in.labels:
            raise DataError("the regression has no rows; add labelled rows before solving it")
        return NormalEquations(
            labels=stood_in.labels,
            counts=stood_in.counts,
            sums=stood_in.sums,
            outer=self._sums.outer,
            of_encoder=self.features.size,
            beside=stood_in.beside if len(stood_in.beside) else None,
        )

    def solve(self, penalty: Penalty = _USUAL) -> HeadWeights:
        """The head for what is in now: some 2 seconds for D = 6072 on two cores; its scores are not calibrated.

        Raises:
            DataError: nothing has been learnt.
        """
        return self._head(self.equations(penalty.anchor_rows).solved(penalty))

    def solve_with(self, more: ClassRows, penalty: Penalty = _USUAL) -> tuple[HeadWeights, HeadWeights]:
        """The same as of all sums; the second head costs little more than the first, by whose factor it goes.

        Raises:
            DataError: nothing has been learnt, or a row is of a class that is not in.
        """
        if self._anchors or not 0 < len(more) <= self._sums.size // 2 or not set(more.labels) <= set(self.labels):
            return super().solve_with(more, penalty)
        self._check(more)
        equations = self.equations(penalty.anchor_rows)
        members = np.zeros((len(equations.labels), len(more)))
        members[places_of(more.labels, equations.labels), np.arange(len(more))] = 1.0
        solver, features = Solver(equations, penalty), self.mapped(more)
        head = self._head(solver.solution())
        return head, self._head(solver.with_rows(features, members.sum(axis=1), members @ features))

    def _head(self, solved: Regression) -> HeadWeights:
        weight = solved.weight - solved.weight.mean(axis=0)
        bias = solved.bias - solved.bias.mean()
        size = self.features.size
        return HeadWeights(
            labels=solved.labels,
            omega=self.features.omega,
            phase=self.features.phase,
            weight=weight[:, :size].astype(np.float32),
            bias=bias.astype(np.float32),
            temperature=1.0,
            lexical=np.ascontiguousarray(weight[:, size:], dtype=np.float32),
            lexical_of_words=self.lexical.of_words,
        )

    def copy(self) -> "Ridge":
        """Sums of their own with the same values."""
        twin = Ridge(self.features, self.lexical)
        twin._sums = self._sums.narrowed(slice(None))
        twin._anchors, twin._anchor_means = dict(self._anchors), dict(self._anchor_means)
        return twin

    def save(self, path: Path) -> None:
        """Writes the sums to a safetensors file; `load` gives back exactly this regression."""
        self._to_file(_FORMAT, lexical=self.lexical.size, of_words=self.lexical.of_words).write(path)

    @classmethod
    def load(cls, path: Path) -> "Ridge":
        """The regression that `save` wrote.

        Raises:
            DataError: the file is missing or is not such a file.
        """
        file = SumsFile.read(path)
        file.check_format(path, _FORMAT)
        features = FourierFeatures(omega=file.tensors["omega"], phase=file.tensors["phase"])
        head = cls(features, LexicalFeatures(size=file.about["lexical"], of_words=file.about.get("of_words", 0)))
        head._restore(file.tensors, file.about)
        return head

    def _check(self, rows: ClassRows) -> None:
        super()._check(rows)
        if rows.texts is None:
            raise DataError("a ridge regression reads words too; give the texts with their embeddings")
