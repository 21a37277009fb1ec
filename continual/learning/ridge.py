"""The fast learner that reads words too: ridge regression on an encoder's kernel features beside lexical ones."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.calibration import places_of
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.equations_ahead import EquationsAhead
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.head import HeadWeights, RowFeatures
from perennial.continual.learning.lapack import on_each
from perennial.continual.learning.lexical import LexicalFeatures
from perennial.continual.learning.normal_equations import NormalEquations, Penalty, Regression, Solver, together
from perennial.continual.learning.ridge_ahead import RidgeAhead
from perennial.continual.learning.sums import SumsFile

__all__ = ["Ridge"]

logger = logging.getLogger(__name__)

_FORMAT, _OF_SKETCHES = "perennial-ridge-1", "perennial-ridge-2"
_USUAL = Penalty()
Floats = NDArray[np.float64]


class Ridge(AnchoredSums):
    """Least squares to 1 for a row's class and -1 for all others, kept as sums in float64.

    The features are random Fourier features of the embedding and hashed words and letters of the text. Rows are
    added, taken back and merged exactly as in `KernelLda`; neither a row nor a vocabulary is stored.

    Where words are read in several sketches, each of these, with its share of the Fourier features, is a regression of
    its own, and the mean of all answers. Features that are drawn by chance err by chance, and the mean errs less: four
    regressions of half the features each have as many sums as one of all, are solved in half the time, and see twice
    as many features.

    Memory is 8 D^2 bytes for each sketch's D features and 8 C D for the classes: four with 1500 Fourier and 1536
    lexical features take 303 MB with 77 classes, half of it on disk. Solving takes a tenth of that again.

    Source: Jacot et al. 2020, "Implicit Regularization of Random Feature Models": that mean is the exact kernel's
    regression with some more shrinkage.

    >>> head = Ridge(FourierFeatures.make(dimension=2, features=64, gamma=0.5, seed=0), LexicalFeatures.of_size(64))
    >>> head.add(ClassRows(X=np.array([[1.0, 0.0], [0.0, 1.0]]), labels=["yes", "no"], texts=["of course", "never"]))
    2
    >>> weights = head.solve()
    >>> weights.labels[int(weights.logits(np.array([[0.9, 0.1]]), ["course"]).argmax())]
    'yes'
    """

    def __init__(self, features: FourierFeatures, lexical: LexicalFeatures) -> None:
        if features.size % lexical.sketches:
            raise ConfigurationError(f"{lexical.sketches} sketches cannot share {features.size} Fourier features alike")
        super().__init__(features, features.size + lexical.size, parts=lexical.sketches)
        self.lexical = lexical
        self._ahead: RidgeAhead | None = None

    def mapped(self, rows: ClassRows) -> Floats:
        """Features of rows, (rows, D): one sketch after the other, in each those of the encoder first."""
        seen = self._see(rows) if rows.features is None else rows.features
        features = np.empty((len(rows), self._sums.size))
        for sketch, columns in enumerate(self._sums.columns):
            self._of_sketch(seen, sketch, out=features[:, columns])
        return features

    def _of_sketch(self, seen: RowFeatures, sketch: int, out: Floats | None = None) -> Floats:
        """What rows that were seen are to one sketch, (rows, D / sketches)."""
        if seen.of_words is None:
            raise DataError(
                "these rows were mapped without their words, which a ridge regression reads; see `Ridge.seen`"
            )
        blocks = (seen.of_embeddings, seen.of_words)
        sizes = [block.shape[1] // self.lexical.sketches for block in blocks]
        own = np.empty((len(blocks[0]), sum(sizes))) if out is None else out
        root = np.sqrt(self.lexical.sketches)  # so that its own have the length that those of all have together
        start = 0
        for block, size in zip(blocks, sizes, strict=True):
            np.multiply(block[:, sketch * size : (sketch + 1) * size], root, out=own[:, start : start + size])
            start += size
        return own

    def seen(self, rows: ClassRows) -> RowFeatures:
        """Rows as every head of these sums sees them."""
        self._check(rows)
        return self._see(rows) if self._ahead is None else self._ahead.seen(rows, self._see)

    def _see(self, rows: ClassRows) -> RowFeatures:
        kinds: tuple[Callable[[], Floats], ...] = (
            lambda: self.features(rows.X),
            lambda: self.lexical(rows.texts or []),
        )
        of_embeddings, of_words = on_each(lambda kind: kind(), kinds)
        return RowFeatures(of_embeddings=of_embeddings, of_words=of_words)

    def look_ahead(self, penalty: Penalty, proof: ClassRows, others: ClassRows) -> None:
        """Work out what the next update's solutions with this penalty need of what is in now.

        They are the same then to 1e-9 and cost less than half. It takes as long as a solution, and 8 D^2 bytes for each
        sketch. An update that takes rows back goes without.

        Args:
            penalty: of the solutions.
            proof: rows that are likely to be the proof again.
            others: rows of which `seen` is asked again.
        """
        self._check(proof)
        equations = self.equations(penalty.anchor_rows)
        before = set(proof.texts or ())
        rows = proof.joined(others.at([row for row, text in enumerate(others.texts or ()) if text not in before]))
        seen = self._see(rows)
        first = RowFeatures(
            of_embeddings=seen.of_embeddings[: len(proof)],
            of_words=None if seen.of_words is None else seen.of_words[: len(proof)],
        )
        self._ahead = RidgeAhead(
            on_each(lambda part: EquationsAhead(part, penalty), equations),
            self._sums.columns,
            self.mapped(replace(proof, features=first)),
            rows.texts or (),
            seen,
        )

    def add(self, rows: ClassRows) -> int:
        """See `AnchoredSums.add`."""
        if self._ahead is None or rows.keys is None:
            self._ahead = None
            return super().add(rows)
        self._check(rows)
        return self._sums.add(rows, self._ahead.noting(self.known_keys, self.mapped))

    def remove(self, rows: ClassRows) -> int:
        """See `AnchoredSums.remove`."""
        if len(rows):
            self._ahead = None
        return super().remove(rows)

    def merge(self, other: "Ridge") -> None:
        """Adds all that `other` has learnt.

        Raises:
            DataError: it maps to other features, or shares keyed rows with this one.
        """
        if not self.features.same_as(other.features) or self.lexical != other.lexical:
            raise DataError("the two regressions use different features; make both with the same seed, gamma and sizes")
        self._ahead = None
        self._take_over(other)

    def anchor(self, label: str, rows: ClassRows) -> None:
        """Gives a class stand-in rows, which `solve` uses until enough real ones have come."""
        self._check(rows)
        self._anchors[label] = self.mapped(rows)  # their features: no text stays
        self._anchor_means[label] = rows.X.mean(axis=0, dtype=np.float64)

    def equations(self, anchor_rows: int = _USUAL.anchor_rows) -> tuple[NormalEquations, ...]:
        """What a penalty is put on, of each sketch. They share the memory of the sums: solve them before these change.

        A class with n real rows has max(0, anchor_rows - n) rows' worth of its anchors in it.

        Raises:
            DataError: nothing has been learnt.
        """
        of_encoder = self.features.size // self._sums.parts
        equations = self._sums.equations(self._anchors, anchor_rows, of_encoder=of_encoder)
        if not equations[0].labels:
            raise DataError("the regression has no rows; add labelled rows before solving it")
        return equations

    def solve(self, penalty: Penalty = _USUAL) -> HeadWeights:
        """The head for what is in now: a second for four times D = 3036 on two cores; its scores are not calibrated.

        Raises:
            DataError: nothing has been learnt.
        """
        return self._head(on_each(lambda part: part.solved(penalty), self.equations(penalty.anchor_rows)))

    def solve_with(self, more: ClassRows, penalty: Penalty = _USUAL) -> tuple[HeadWeights, HeadWeights]:
        """The same as of all sums; the second head costs little more than the first, by whose factors it goes.

        Raises:
            DataError: nothing has been learnt, or a row is of a class that is not in.
        """
        each = self._sums.size // self._sums.parts
        if self._anchors or not 0 < len(more) <= each // 2 or not set(more.labels) <= set(self.labels):
            return super().solve_with(more, penalty)
        self._check(more)
        equations = self.equations(penalty.anchor_rows)
        seen = self.seen(more) if more.features is None else more.features
        members = np.zeros((len(equations[0].labels), len(more)))
        members[places_of(more.labels, equations[0].labels), np.arange(len(more))] = 1.0

        def own_features(place: int) -> Floats:
            return self._of_sketch(seen, place)

        def both(place: int) -> tuple[Regression, Regression]:
            own = own_features(place)
            solver = Solver(equations[place], penalty)
            return solver.solution(), solver.with_rows(own, members.sum(axis=1), members @ own)

        ahead = self._ahead
        heads = None if ahead is None else ahead.solutions(equations, penalty, more, own_features, members)
        if heads is not None:
            logger.info("training.solved_by_what_was_ready")
        heads = heads or on_each(both, range(len(equations)))
        return self._head([without for without, _ in heads]), self._head([within for _, within in heads])

    def _head(self, solved: Sequence[Regression]) -> HeadWeights:
        whole, sketches = together(solved), self.lexical.sketches
        weight = whole.weight - whole.weight.mean(axis=0)
        bias = whole.bias - whole.bias.mean()
        weight = weight.reshape(len(weight), sketches, -1) * np.sqrt(sketches)  # features are scaled so by `mapped`
        size = self.features.size // sketches
        return HeadWeights(
            labels=whole.labels,
            omega=self.features.omega,
            phase=self.features.phase,
            weight=weight[:, :, :size].reshape(len(weight), -1).astype(np.float32),
            bias=bias.astype(np.float32),
            temperature=1.0,
            lexical=np.ascontiguousarray(weight[:, :, size:].reshape(len(weight), -1), dtype=np.float32),
            words=self.lexical,
        )

    def copy(self) -> "Ridge":
        """Sums of their own with the same values."""
        twin = Ridge(self.features, self.lexical)
        twin._sums = self._sums.copy()
        twin._anchors, twin._anchor_means = dict(self._anchors), dict(self._anchor_means)
        return twin

    def blank(self) -> "Ridge":
        """The same features, and nothing learnt."""
        return Ridge(self.features, self.lexical)

    def save(self, path: Path, more: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Writes the sums to a safetensors file, with `more` about them; `load` gives back exactly this regression."""
        kind, about = _FORMAT if self.lexical.sketches == 1 else _OF_SKETCHES, asdict(self.lexical)
        self._to_file(kind, lexical=about.pop("size"), **about, **more).write(path)

    @classmethod
    def load(cls, path: Path) -> "Ridge":
        """The regression that `save` wrote.

        Raises:
            DataError: the file is missing or is not such a file.
        """
        file = SumsFile.read(path)
        file.check_format(path, _OF_SKETCHES if file.about.get("sketches", 1) > 1 else _FORMAT)
        features = FourierFeatures(omega=file.tensors["omega"], phase=file.tensors["phase"])
        about = {name: file.about[name] for name in ("of_words", "sketches") if name in file.about}
        head = cls(features, LexicalFeatures(size=file.about["lexical"], **about))
        head._restore(file.tensors, file.about)
        return head

    def _check(self, rows: ClassRows) -> None:
        super()._check(rows)
        if rows.texts is None:
            raise DataError("a ridge regression reads words too; give the texts with their embeddings")
