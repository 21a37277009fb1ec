"""The fast learner: discriminant analysis in a kernel's feature space, from sums that can be added and taken back."""

import json
from collections.abc import Iterator, KeysView, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.head import HeadWeights, Priors

__all__ = ["HeadWeights", "KernelLda", "Priors", "load_keys"]

_SETTLED_ROWS = 30.0  # from here on a class's mean is taken as it is
_BLOCK = 2048  # rows mapped at a time: 2048 x 3000 x 8 bytes = 49 MB
_FORMAT = "perennial-kernel-lda-1"


class KernelLda:
    """Class means and one shared covariance of Fourier features, kept as sums in float64.

    Rows may come in any order, class by class or mixed, today or in a year, and may be taken back: the sums, and so
    the head, are those of the rows that are in. Rows added with a key are remembered by it (16 bytes a row): adding
    one again changes nothing, and adding it with another label moves it. A class whose last row leaves is gone.

    Memory is 8 D^2 + 8 C D bytes, 74 MB for D = 3000 and 77 classes; half of that on disk.

    Source: Hayes and Kanan 2020 (streaming LDA); Momeni et al. 2024, arXiv 2412.15571 (with Fourier features).

    >>> import numpy as np
    >>> head = KernelLda(FourierFeatures.make(dimension=2, features=64, gamma=0.5, seed=0))
    >>> head.add(np.array([[1.0, 0.0], [0.0, 1.0]]), ["yes", "no"])
    2
    >>> weights = head.solve()
    >>> weights.labels[int(weights.logits(np.array([[0.9, 0.1]])).argmax())]
    'yes'
    """

    def __init__(self, features: FourierFeatures) -> None:
        self.features = features
        self._place: dict[str, int] = {}
        self._counts = np.zeros(0)
        self._sums = np.zeros((0, features.size))
        self._outer = np.zeros((features.size, features.size))
        self._known: dict[int, str] = {}
        self._anchors: dict[str, NDArray[np.float64]] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that have rows or anchors, sorted: the order of the logits, whatever the order of arrival."""
        return tuple(sorted({*self._place, *self._anchors}))

    @property
    def counts(self) -> dict[str, int]:
        """Rows by class."""
        return {label: round(float(self._counts[place])) for label, place in sorted(self._place.items())}

    @property
    def rows(self) -> int:
        """Rows that are in."""
        return round(float(self._counts.sum()))

    @property
    def known_keys(self) -> KeysView[int]:
        """The keys of the rows that were added with one."""
        return self._known.keys()

    def add(self, X: NDArray[np.floating[Any]], labels: Sequence[str], keys: Sequence[int] | None = None) -> int:
        """Learns rows and returns how many changed the sums.

        Args:
            X: (rows, d).
            labels: one a row.
            keys: 64-bit numbers that name the rows (`row_hash` of the text). A key that is in with the same label is
                passed over; with another label the row is moved, so X must be what it was when the row was added.

        Raises:
            DataError: lengths differ, or X does not fit the features.
        """
        self._check(X, labels, keys)
        if keys is None:
            self._shift(X, list(labels), +1.0)
            return len(labels)
        last = {key: row for row, key in enumerate(keys)}  # a key given twice counts once, with its last label
        fresh = [row for key, row in last.items() if self._known.get(key) != labels[row]]
        moved = [row for row in fresh if keys[row] in self._known]
        self._shift(X[moved], [self._known[keys[row]] for row in moved], -1.0)
        self._shift(X[fresh], [labels[row] for row in fresh], +1.0)
        self._known.update((keys[row], labels[row]) for row in fresh)
        self._drop_empty()
        return len(fresh)

    def remove(self, X: NDArray[np.floating[Any]], labels: Sequence[str], keys: Sequence[int] | None = None) -> int:
        """Takes rows back and returns how many left: afterwards the sums are those of a head that never saw them.

        With keys, rows that are not in are passed over and the label that they came in with is used.

        Raises:
            DataError: lengths differ, or more rows of a class are taken than are in it.
        """
        self._check(X, labels, keys)
        if keys is None:
            rows, taken = list(range(len(labels))), list(labels)
        else:
            rows = [row for key, row in {key: row for row, key in enumerate(keys)}.items() if key in self._known]
            taken = [self._known[keys[row]] for row in rows]
        for label in sorted(set(taken)):
            held = self.counts.get(label, 0)
            if taken.count(label) > held:
                raise DataError(f"{taken.count(label)} rows of class {label!r} to take back, but only {held} are in")
        self._shift(X[rows], taken, -1.0)
        if keys is not None:
            for row in rows:
                del self._known[keys[row]]
        self._drop_empty()
        return len(rows)

    def merge(self, other: "KernelLda") -> None:
        """Adds all that `other` has learnt.

        Raises:
            DataError: it maps to other features, or shares keyed rows with this one.
        """
        if not (
            np.array_equal(self.features.omega, other.features.omega)
            and np.array_equal(self.features.phase, other.features.phase)
        ):
            raise DataError("the two heads use different Fourier features; make both with the same seed and gamma")
        shared = self._known.keys() & other._known.keys()
        if shared:
            raise DataError(f"the two heads share {len(shared)} rows; take them out of one with remove() first")
        for label, place in other._place.items():
            mine = self._place_of(label)
            self._counts[mine] += other._counts[place]
            self._sums[mine] += other._sums[place]
        self._outer += other._outer
        self._known.update(other._known)
        self._anchors = {**other._anchors, **self._anchors}

    def anchor(self, label: str, X: NDArray[np.floating[Any]]) -> None:
        """Gives a class stand-in rows X (rows, d), which `solve` uses until enough real ones have come."""
        self._check(X, [label] * len(X), None)
        self._anchors[label] = X.astype(np.float64)

    def drop_anchors(self) -> None:
        """Takes every class's stand-in rows away; a class without real rows is gone."""
        self._anchors = {}

    def solve(
        self,
        *,
        shrinkage: float = 3e-6,
        temperature: float = 1.0,
        priors: Priors = Priors.UNIFORM,
        anchor_rows: int = 5,
    ) -> HeadWeights:
        """The head for what is in now; about a second for D = 3000, half of one more while a class has under 30 rows.

        The mean of n rows lies farther from every row than the class's true mean, by the trace of the noise over n: a
        class with few rows would hardly ever be answered. Up to 30 rows that is put right in the bias; a class with
        nothing but stand-in rows counts as one.
        Source: plug-in discriminants without their bias, Moran and Murphy, Applied Statistics 28, 1979.

        Args:
            shrinkage: added to the diagonal of the within-class covariance, whose trace is below 1.
            temperature: the logits are divided by it.
            priors: uniform, or as frequent as the rows.
            anchor_rows: a class with n real rows keeps max(0, anchor_rows - n) rows' worth of its anchors.

        Raises:
            ConfigurationError: shrinkage or temperature is not positive.
            DataError: nothing has been learnt.
        """
        from scipy.linalg import cho_factor, cho_solve

        if not (shrinkage > 0 and temperature > 0):
            raise ConfigurationError(f"shrinkage {shrinkage} and temperature {temperature} must be positive")
        labels, counts, sums, scatter = self._with_anchors(anchor_rows)
        real = np.array([self._counts[self._place[label]] if label in self._place else 0.0 for label in labels])
        rows = real + (counts > real)  # stand-ins of a class vary less than its rows do: together they count as one
        if not labels:
            raise DataError("the head has no rows; add labelled rows before solving it")
        means = sums / counts[:, None]  # (C, D)
        scatter -= (means * counts[:, None]).T @ means
        scatter /= counts.sum()
        scatter.flat[:: len(scatter) + 1] += shrinkage
        factor = cho_factor(scatter, lower=True, overwrite_a=True, check_finite=False)
        weight = cho_solve(factor, means.T, check_finite=False).T  # (C, D)
        bias = -0.5 * (weight * means).sum(axis=1)
        if rows.min() < _SETTLED_ROWS:
            bias += 0.5 * _noise(factor, shrinkage) * np.maximum(1.0 / rows - 1.0 / _SETTLED_ROWS, 0.0)
        if priors is Priors.EMPIRICAL:
            bias += np.log(counts / counts.sum())
        weight -= weight.mean(axis=0)  # the same answer with smaller numbers, so float32 loses less
        bias -= bias.mean()
        return HeadWeights(
            labels=labels,
            omega=self.features.omega,
            phase=self.features.phase,
            weight=(weight / temperature).astype(np.float32),
            bias=(bias / temperature).astype(np.float32),
            temperature=temperature,
        )

    def narrowed(self, features: int) -> "KernelLda":
        """A copy on the first Fourier features only, or all if there are fewer: cheap to solve when choosing."""
        size = min(features, self.features.size)
        grown = np.sqrt(self.features.size / size)  # features are scaled by sqrt(2 / D)
        omega, phase = self.features.omega[:, :size].copy(), self.features.phase[:size].copy()
        copy = KernelLda(FourierFeatures(omega=omega, phase=phase))
        copy._place = dict(self._place)
        copy._counts = self._counts.copy()
        copy._sums = self._sums[:, :size] * grown
        copy._outer = self._outer[:size, :size] * grown**2
        copy._known = dict(self._known)
        copy._anchors = dict(self._anchors)
        return copy

    def save(self, path: Path) -> None:
        """Writes the sums to a safetensors file; `load` gives back exactly this head."""
        from safetensors.numpy import save_file

        order = sorted(self._place, key=lambda label: self._place[label])
        tensors = {
            "omega": self.features.omega,
            "phase": self.features.phase,
            "counts": self._counts,
            "sums": self._sums,
            "outer_lower": self._outer[np.tril_indices(self.features.size)],
            "known_keys": np.fromiter(self._known, dtype=np.uint64, count=len(self._known)),
            "known_labels": np.array([self._place[label] for label in self._known.values()], dtype=np.int32),
            **{f"anchor.{row}": self._anchors[label] for row, label in enumerate(self._anchors)},
        }
        about = json.dumps({"format": _FORMAT, "labels": order, "anchors": list(self._anchors)})
        whole = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
        save_file(whole, path, metadata={"about": about})  # one entry: safetensors writes several in random order

    @classmethod
    def load(cls, path: Path) -> "KernelLda":
        """The head that `save` wrote.

        Raises:
            DataError: the file is missing or is not such a file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                about: dict[str, Any] = json.loads((file.metadata() or {}).get("about", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (OSError, SafetensorError) as error:
            raise DataError(f"statistics {path} cannot be read ({error}); retrain from the stored rows") from error
        if about.get("format") != _FORMAT:
            raise DataError(f"statistics {path} have format {about.get('format')!r}; this version reads {_FORMAT!r}")
        head = cls(FourierFeatures(omega=tensors["omega"], phase=tensors["phase"]))
        order: list[str] = about["labels"]
        head._place = {label: place for place, label in enumerate(order)}
        head._counts, head._sums = tensors["counts"], tensors["sums"]
        lower = np.tril_indices(head.features.size)
        head._outer[lower] = tensors["outer_lower"]
        head._outer.T[lower] = tensors["outer_lower"]
        places = zip(tensors["known_keys"].tolist(), tensors["known_labels"].tolist(), strict=True)
        head._known = {key: order[place] for key, place in places}
        head._anchors = {label: tensors[f"anchor.{row}"] for row, label in enumerate(about["anchors"])}
        return head

    def _check(self, X: NDArray[np.floating[Any]], labels: Sequence[str], keys: Sequence[int] | None) -> None:
        if X.ndim != 2 or X.shape[1] != self.features.dimension:
            raise DataError(f"embeddings are {X.shape}; this head takes (rows, {self.features.dimension})")
        if len(X) != len(labels) or (keys is not None and len(keys) != len(labels)):
            raise DataError(f"{len(X)} embeddings, {len(labels)} labels and keys must be equally many")

    def _place_of(self, label: str) -> int:
        place = self._place.get(label)
        if place is None:
            place = self._place[label] = len(self._place)
            self._counts = np.append(self._counts, 0.0)
            self._sums = np.concatenate([self._sums, np.zeros((1, self.features.size))])
        return place

    def _shift(self, X: NDArray[np.floating[Any]], labels: list[str], sign: float) -> None:
        places = np.array([self._place_of(label) for label in labels], dtype=np.intp)
        for rows in _blocks(len(labels)):
            features = self.features(X[rows])
            members = np.zeros((len(self._place), len(features)))
            members[places[rows], np.arange(len(features))] = sign
            self._counts += members.sum(axis=1)
            self._sums += members @ features
            product = features.T @ features  # numpy hands this to dsyrk: half the work, and exactly symmetric
            product *= sign
            self._outer += product

    def _drop_empty(self) -> None:
        kept = [label for label, place in self._place.items() if self._counts[place] > 0.5]
        if len(kept) == len(self._place):
            return
        places = [self._place[label] for label in kept]
        self._counts, self._sums = self._counts[places], self._sums[places]
        self._place = {label: place for place, label in enumerate(kept)}
        if not kept:
            self._outer[:] = 0.0

    def _with_anchors(
        self, anchor_rows: int
    ) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Labels in logit order, and counts, sums and outer products with the anchors that are still needed."""
        counts, sums = dict.fromkeys(self.labels, 0.0), np.zeros((len(self.labels), self.features.size))
        for row, label in enumerate(self.labels):
            if label in self._place:
                counts[label] = float(self._counts[self._place[label]])
                sums[row] = self._sums[self._place[label]]
        outer = self._outer.copy()
        for row, label in enumerate(self.labels):
            weight = anchor_rows - counts[label]
            if label not in self._anchors or weight <= 0:
                continue
            features = self.features(self._anchors[label]) * np.sqrt(weight / len(self._anchors[label]))
            sums[row] += features.sum(axis=0) * np.sqrt(weight / len(self._anchors[label]))
            outer += features.T @ features
            counts[label] += weight
        used = [row for row, label in enumerate(self.labels) if counts[label] > 0]
        labels = tuple(self.labels[row] for row in used)
        return labels, np.array([counts[label] for label in labels]), sums[used], outer


def _noise(factor: tuple[NDArray[np.float64], bool], shrinkage: float) -> float:
    """Trace of S (S + shrinkage I)^-1, from the Cholesky factor of the sum: how far a row lies from its mean."""
    from scipy.linalg.lapack import dtrtri

    inverse = np.tril(dtrtri(np.tril(factor[0]), lower=1)[0])
    return float(len(inverse) - shrinkage * np.einsum("ij,ij->", inverse, inverse))


def _blocks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, _BLOCK):
        yield slice(start, min(start + _BLOCK, rows))


def load_keys(path: Path) -> frozenset[int]:
    """The keys of the rows that saved sums hold, without reading the sums.

    Raises:
        DataError: the file is missing or is not such a file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return frozenset(file.get_tensor("known_keys").tolist())
    except (OSError, SafetensorError) as error:
        raise DataError(f"statistics {path} cannot be read ({error}); retrain from the stored rows") from error
