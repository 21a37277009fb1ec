"""How new each request is to a version, and evidence that more of them became new: exact, one request at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.compare import DriftComparison
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.seasons import Phase
from perennial.continual.drift.sequential import EDetector, EDetectorState
from perennial.continual.drift.window import Window

__all__ = ["NoveltyState", "with_novelty"]

_NEIGHBOURS = 2
_BINS = 32
_LEAST_OF_ANSWER = 8  # rows of the reference with which an answer is ranked among its own; the others share one rank
_MOST_ANSWERS = 500  # with a rank of their own, the commonest: what is remembered stays small
_OTHERS = ""
_POWER = 9  # a request of rank p, 0 the newest, has the value (1 - p)^9, whose mean is 0.1 while nothing changes
_MEAN = 1.0 / (_POWER + 1)
_SPREAD = float(np.sqrt(1.0 / (2 * _POWER + 1) - _MEAN**2))
_LEAST_ROWS = 100  # of a phase, that its novelty can be told
_NEW, _LESS, _LESS_SINCE = 1.645, 2.33, 1.28  # standard errors by which a phase is new, and others are less new


@dataclass(frozen=True, slots=True, kw_only=True)
class NoveltyState:
    """What was seen of one version's requests, and the evidence that more of them became new.

    A request's score is the entropy of its answer and the cosine distance to its two nearest neighbours in the
    reference, each in standard deviations of the reference's own (`entropy_unit`, `distance_unit`; 0 leaves one out).
    `counts` has a histogram of scores, cut at `edges`, for each answer. Each request is ranked among the earlier ones
    with the same answer, ties at random. While such requests could have come in any order, ranks are uniform and
    independent, whatever the mix of answers. So an alarm comes after `run_length` requests or more on average, without
    a bound that must be learnt first. Requests of one burst say one thing: their mean. While `alarmed`, nothing is
    added to the counts; an alarm lasts until a window after which the evidence since is no more than chance makes of so
    many requests.

    Source: Vovk, Nouretdinov and Gammerman (2003), Testing exchangeability on-line; label-conditional ranks as in Vovk,
    Gammerman and Shafer (2005), Algorithmic learning in a random world; sums as in `EDetector`.

    >>> w = Window.from_columns({"text": ["a"] * 40, "prediction": ["x"] * 40, "version": [3] * 40,
    ...                          "entropy": [0.1 * (i % 10) for i in range(40)]})
    >>> reference = ReferenceProfile.build(w, version=3, rng=np.random.default_rng(1))
    >>> state = NoveltyState.begun(reference, run_length=1_000.0)
    >>> after = state.followed(state.scored(reference, w), w, np.random.default_rng(2))
    >>> after.alarmed, NoveltyState.from_json(after.to_json()) == after
    (False, True)
    """

    run_length: float
    entropy_unit: float
    distance_unit: float
    edges: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]
    detector: EDetectorState
    alarmed: bool = False

    @classmethod
    def begun(cls, reference: ReferenceProfile, *, run_length: float) -> Self | None:
        """Return the state after the reference's rows; None where answers have neither entropies nor embeddings."""
        sample = reference.sample
        entropies = np.zeros(len(sample)) if sample.entropies is None else sample.entropies.astype(np.float64)
        distances = np.zeros(len(sample))
        if sample.embeddings is not None and len(sample) > _NEIGHBOURS:
            rows = _unit_rows(sample.embeddings)
            distances = _distances(rows, rows, skip=1)
        units = [float(values.std()) for values in (entropies, distances)]
        if not any(units):
            return None
        scores = sum(values / unit for values, unit in zip((entropies, distances), units, strict=True) if unit)
        low, high = float(np.median(scores)), float(np.max(scores))
        edges = np.linspace(low, high + 0.25 * (high - low) + 1e-6, _BINS - 1)
        names, sizes = np.unique(sample.predictions, return_counts=True)
        common = sorted(zip(sizes.tolist(), names.tolist(), strict=True), reverse=True)[:_MOST_ANSWERS]
        counts = {name: [0] * _BINS for name in (*(n for size, n in common if size >= _LEAST_OF_ANSWER), _OTHERS)}
        for answer, place in zip(sample.predictions.tolist(), np.searchsorted(edges, scores).tolist(), strict=True):
            counts.get(answer, counts[_OTHERS])[place] += 1
        return cls(
            run_length=run_length,
            entropy_unit=units[0],
            distance_unit=units[1],
            edges=tuple(edges.tolist()),
            counts={name: tuple(row) for name, row in counts.items()},
            detector=EDetector(bound=_MEAN, run_length=run_length).start(),
        )

    @property
    def mean(self) -> float:
        """Return the mean value of a request while nothing changes; the evidence grows above it."""
        return _MEAN

    @property
    def evidence(self) -> float:
        """Return the evidence that more requests are new; an alarm is raised at the run length."""
        return self.detector.value

    def scored(self, reference: ReferenceProfile, window: Window) -> NDArray[np.int64] | None:
        """Return the bin of each row's score, (n,), higher means newer; None where a row lacks what it is made of."""
        scores = np.zeros(len(window))
        if self.entropy_unit:
            if window.entropies is None:
                return None
            scores += window.entropies / self.entropy_unit
        if self.distance_unit:
            sides = reference.sample.embeddings, window.embeddings
            if sides[0] is None or sides[1] is None or sides[0].shape[1] != sides[1].shape[1]:
                return None
            scores += _distances(_unit_rows(sides[1]), _unit_rows(sides[0])) / self.distance_unit
        return np.searchsorted(np.asarray(self.edges), scores)

    def followed(self, places: NDArray[np.int64], window: Window, rng: np.random.Generator) -> Self:
        """Return the state after a window's requests, in their order; `places` are their bins."""
        counts = {name: list(row) for name, row in self.counts.items()}
        values = []
        for answer, place, chance in _rows(places, window, rng):
            row = counts.get(answer, counts[_OTHERS])
            values.append(_value(row, place, chance))
            if not self.alarmed:
                row[place] += 1
        after, alarms = self._detector().update(self.detector, _of_bursts(values, window).tolist())
        since = after.seen - (after.last_alarm or 0)
        return replace(
            self,
            counts={name: tuple(row) for name, row in counts.items()},
            detector=after,
            alarmed=bool(alarms) or (self.alarmed and after.value >= since),  # its mean is that while nothing is new
        )

    def afresh(self) -> Self:
        """Return the state without its evidence and its alarm; what was seen stays."""
        return replace(self, detector=replace(self.detector, evidence=self._detector().start().evidence), alarmed=False)

    def returns(self, reference: ReferenceProfile, current: Window, phase: Phase, rng: np.random.Generator) -> bool:
        """Whether as much was new in the same hours of earlier periods, and less at other times since."""
        here, before = self._surplus(reference, current, rng), None
        if phase.rows is not None and len(phase.rows) >= max(_LEAST_ROWS, len(current)):
            before = self._surplus(reference, phase.rows, rng)
        if here is None or before is None or before[0] < _NEW * before[1]:
            return False

        def less(there: tuple[float, float] | None, by: float) -> bool:
            return there is not None and here[0] - there[0] > by * float(np.hypot(here[1], there[1]))

        return not less(before, _LESS) and phase.came_and_went(
            lambda rows: less(self._surplus(reference, rows, rng), _LESS_SINCE), _LEAST_ROWS
        )

    def _surplus(
        self, reference: ReferenceProfile, window: Window, rng: np.random.Generator
    ) -> tuple[float, float] | None:
        """By how much the mean value of rows is above that of all that was seen, and its standard error."""
        places = self.scored(reference, window)
        if places is None:
            return None
        others = self.counts[_OTHERS]
        values = [
            _value(self.counts.get(answer, others), place, chance)
            for answer, place, chance in _rows(places, window, rng)
        ]
        means = _of_bursts(values, window)
        spread = max(_SPREAD * float(np.sqrt(len(means) / len(values))), float(means.std()))
        return float(means.mean()) - _MEAN, spread / float(np.sqrt(len(means)))

    def _detector(self) -> EDetector:
        return EDetector(bound=_MEAN, run_length=self.run_length)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "run_length": self.run_length,
            "entropy_unit": self.entropy_unit,
            "distance_unit": self.distance_unit,
            "edges": list(self.edges),
            "counts": {name: list(row) for name, row in self.counts.items()},
            "detector": self.detector.to_json(),
            "alarmed": self.alarmed,
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Return the state that `to_json` wrote."""
        return cls(
            run_length=float(facts["run_length"]),
            entropy_unit=float(facts["entropy_unit"]),
            distance_unit=float(facts["distance_unit"]),
            edges=tuple(facts["edges"]),
            counts={str(name): tuple(row) for name, row in facts["counts"].items()},
            detector=EDetectorState.from_json(facts["detector"]),
            alarmed=bool(facts["alarmed"]),
        )


def with_novelty(
    comparison: DriftComparison,
    state: NoveltyState,
    reference: ReferenceProfile,
    current: Window,
    phases: Callable[[], Mapping[str, Phase]],
    rng: np.random.Generator,
    *,
    declared: bool = False,
) -> tuple[NoveltyState, DriftComparison]:
    """Return the state after a window, and its comparison with what the evidence says.

    At an alarm the window's own hours of earlier days and weeks are asked, `phases`, the longest last. Where as much
    was new then, it comes with the day or week: the evidence begins afresh. So it does for a phase not seen once, where
    somebody said that traffic turns with it (`declared`).
    """
    places = state.scored(reference, current)
    if places is None:
        return state, comparison
    after = state.followed(places, current, rng)
    if after.detector.alarms > state.detector.alarms:
        asked = phases()
        untold = declared and bool(asked) and asked[list(asked)[-1]].rows is None
        if untold or any(after.returns(reference, current, phase, rng) for phase in asked.values()):
            after = after.afresh()
    return after, replace(comparison, novel=after.alarmed)


def _rows(places: NDArray[np.int64], window: Window, rng: np.random.Generator) -> "zip[tuple[str, int, float]]":
    return zip(window.predictions.tolist(), places.tolist(), rng.random(len(window)).tolist(), strict=True)


def _value(row: "list[int] | tuple[int, ...]", place: int, chance: float) -> float:
    """How surprising a place of the histogram is, in [0, 1]."""
    rank = (sum(row[place + 1 :]) + chance * (row[place] + 1)) / (sum(row) + 1)
    return float((1.0 - rank) ** _POWER)


def _of_bursts(values: Sequence[float], window: Window) -> NDArray[np.float64]:
    """The mean value of each burst, in the order in which they began."""
    if window.bursts is None:
        return np.asarray(values)
    _, first, which = np.unique(window.bursts, return_index=True, return_inverse=True)
    means = np.bincount(which, weights=values) / np.bincount(which)
    ordered: NDArray[np.float64] = means[np.argsort(first)]
    return ordered


def _unit_rows(rows: NDArray[Any]) -> NDArray[np.float32]:
    plain: NDArray[np.float32] = rows.astype(np.float32)
    plain /= np.maximum(np.linalg.norm(plain, axis=1, keepdims=True), 1e-9)
    return plain


def _distances(rows: NDArray[np.float32], others: NDArray[np.float32], *, skip: int = 0) -> NDArray[np.float64]:
    """Each row's mean cosine distance to its nearest others; `skip` leaves out the very nearest: the row itself."""
    many = min(_NEIGHBOURS + skip, others.shape[0])
    near = np.sort(np.partition(rows @ others.T, -many, axis=1)[:, -many:], axis=1)
    nearest: NDArray[np.float64] = 1.0 - near[:, : many - skip].mean(axis=1).astype(np.float64)
    return nearest
