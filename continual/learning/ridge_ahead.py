"""What a ridge's next update needs of the sums as they are, and of rows that it sees again, worked out before it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from perennial.continual.learning.class_sums import ClassRows, Features
from perennial.continual.learning.equations_ahead import EquationsAhead, ProofRows
from perennial.continual.learning.head import RowFeatures
from perennial.continual.learning.lapack import on_each
from perennial.continual.learning.normal_equations import NormalEquations, Penalty, Regression

__all__ = ["RidgeAhead"]

Floats = NDArray[np.float64]
See = Callable[[ClassRows], RowFeatures]


class RidgeAhead:
    """Factors of each sketch's equations, and the features of known rows by their texts.

    It is of use while rows are only added to the sums, or change their class.

    Args:
        sketches: each one's equations, factored.
        columns: where each one's features lie.
        proof: features of the rows that are likely to prove the update, (rows, D), in the order of `texts`.
        texts: of the rows whose features are known; those of the proof come first.
        seen: their features as heads see them.
    """

    def __init__(
        self,
        sketches: Sequence[EquationsAhead],
        columns: Sequence[slice],
        proof: Floats,
        texts: Sequence[str],
        seen: RowFeatures,
    ) -> None:
        self._sketches, self._columns = sketches, columns
        self._place = {text: place for place, text in enumerate(texts)}
        self._seen, self._proof = seen, len(proof)
        pairs = list(zip(sketches, columns, strict=True))
        self._halves = on_each(lambda pair: pair[0].halves(proof[:, pair[1]]), pairs)  # (D, rows) each
        self._size, self._added = proof.shape[1], list[Floats]()

    def seen(self, rows: ClassRows, see: See) -> RowFeatures:
        """Rows as heads see them; those that are not known are looked at now."""
        texts = rows.texts or ()
        places = [self._place.get(text) for text in texts]
        strange = [row for row, place in enumerate(places) if place is None]
        new = see(rows.at(strange))
        known = [row for row, place in enumerate(places) if place is not None]
        taken = [place for place in places if place is not None]

        def whole(of_known: Floats | None, of_new: Floats | None) -> Floats | None:
            if of_known is None or of_new is None:
                return None
            both = np.empty((len(texts), of_known.shape[1]))
            both[known], both[strange] = of_known[taken], of_new
            return both

        kinds = [(each.of_embeddings, each.of_words) for each in (self._seen, new)]
        of_embeddings, of_words = on_each(lambda pair: whole(*pair), list(zip(*kinds, strict=True)))
        if of_embeddings is None:
            raise AssertionError("every row has an embedding")
        return RowFeatures(of_embeddings=of_embeddings, of_words=of_words)

    def noting(self, known: Collection[int], mapped: Features) -> Features:
        """What maps rows that are added, and notes those whose keys are not known."""
        before = frozenset(known)

        def noted(rows: ClassRows) -> Floats:
            features, keys = mapped(rows), rows.keys or ()
            new = [row for row, key in enumerate(keys) if key not in before]
            self._added.append(features if len(new) == len(features) else features[new])
            return features

        return noted

    def _all_added(self) -> Floats:
        if len(self._added) == 1:
            return self._added[0]
        return np.concatenate([np.zeros((0, self._size)), *self._added])

    def solutions(
        self,
        equations: Sequence[NormalEquations],
        penalty: Penalty,
        more: ClassRows,
        features: Callable[[int], Floats],
        members: Floats,
    ) -> list[tuple[Regression, Regression]] | None:
        """Of each sketch the regression of what is in now and the one with `more` rows; None where that is not exact.

        Args:
            equations: each sketch's, of the sums as they are now.
            penalty: what is put on them.
            more: rows that are not in.
            features: gives theirs of a sketch, (rows, D).
            members: 1 where a row is of a class, (C, rows).
        """
        if any(sketch.penalty != penalty for sketch in self._sketches):
            return None
        added = self._all_added()

        def both(place: int) -> tuple[Regression, Regression] | None:
            own, now = features(place), equations[place]
            whole = replace(now, counts=now.counts + members.sum(axis=1), sums=now.sums + members @ own, beside=own)
            proof = ProofRows(halves=self._half(place, more.texts or (), own), members=members)
            fresh = np.ascontiguousarray(added[:, self._columns[place]])
            return self._sketches[place].solutions(now, fresh, proof, whole)

        solved = [pair for pair in on_each(both, range(len(self._sketches))) if pair is not None]
        return solved if len(solved) == len(self._sketches) else None

    def _half(self, sketch: int, texts: Sequence[str], own: Floats) -> Floats:
        """Rows of the proof solved with the lower factor; those that were not known are solved now, (D, rows)."""
        places = [self._place.get(text, self._proof) for text in texts]
        known = [row for row, place in enumerate(places) if place < self._proof]
        strange = [row for row, place in enumerate(places) if place >= self._proof]
        halves = np.empty((own.shape[1], len(texts)), order="F")
        halves[:, known] = self._halves[sketch][:, [places[row] for row in known]]
        halves[:, strange] = self._sketches[sketch].halves(own[strange])
        return halves
