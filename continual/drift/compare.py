"""One comparison of a window with its version's reference: is there a difference, does it matter, and in what."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.matching import match_mix
from perennial.continual.drift.outcomes import OUTCOMES, outcomes_of, silent_share, told_of
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.settings import DriftSettings, Signal
from perennial.continual.drift.statistics import (
    StatisticResult,
    chi_square,
    classifier_auc,
    ks,
    rff_mmd,
    share_shift,
    wasserstein,
)
from perennial.continual.drift.statistics.permutation import in_bursts
from perennial.continual.drift.window import Window
from perennial.continual.errors import DataError

__all__ = [
    "DriftComparison",
    "Season",
    "SignalResult",
    "adjusted_of",
    "compare",
    "holm",
    "labels_of",
    "measure",
    "measure_all",
    "same_mix",
    "signals_of",
]

_MISSING = 0.25  # of a window without feedback that usually comes, above which it is told
_LEAST_TOLD = 30  # answers of which it is known what became of them, on each side
_MATCHING = 8  # the stream of chance that draws rows of one mix: it stays, so that reports of old are repeated
_LEAST_MATCHED = 50  # rows of the current side: with fewer, two mixes are too different to look past the difference
TEXT_ROWS = 2_000
"""Rows of a window whose texts are read; numbers and labels are taken from every row."""

_METHODS: Mapping[Signal, str] = {
    Signal.CONFIDENCE: "ks",
    Signal.ENTROPY: "wasserstein",
    Signal.PREDICTION: "chi_square",
    Signal.LENGTH: "ks",
    Signal.NON_LETTER: "ks",
    Signal.UNKNOWN_WORDS: "ks",
    Signal.EMBEDDING: "rff_mmd",
    Signal.DOMAIN: "classifier_auc",
    Signal.HIT_RATE: "share_shift",
    Signal.POPULARITY: "ks",
    Signal.NEW_ITEMS: "share_shift",
    Signal.BRIGHTNESS: "ks",
    Signal.SIZE: "ks",
}

_COLUMNS: Mapping[Signal, str] = {  # of a window, which may lack them
    Signal.CONFIDENCE: "confidences",
    Signal.ENTROPY: "entropies",
    Signal.EMBEDDING: "embeddings",
    Signal.DOMAIN: "embeddings",
    Signal.BRIGHTNESS: "brightnesses",
    Signal.SIZE: "sizes",
}
_OF_WORDS = frozenset({Signal.LENGTH, Signal.NON_LETTER, Signal.UNKNOWN_WORDS})
_OF_SOME_ROWS = frozenset({Signal.NON_LETTER, Signal.UNKNOWN_WORDS, Signal.EMBEDDING, Signal.DOMAIN})
_OF_ALL_ROWS = frozenset({Signal.PREDICTION, *OUTCOMES})


class Season(StrEnum):
    """What the same phase of the days and weeks before says of a window that is unlike the reference."""

    NOT_ASKED = ""
    RETURNING = "returning"
    NEW = "new"
    UNTOLD = "cannot tell yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalResult:
    """One signal's answer. `drifted` holds when `adjusted_p` is below the level and the effect reaches its floor."""

    signal: Signal
    method: str
    result: StatisticResult
    adjusted_p: float
    drifted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftComparison:
    """One measured comparison; `signals` come strongest first. `seed` repeats it exactly.

    With `matched` all signals but the prediction were measured on rows drawn so that both sides mix the same answers
    alike; `matched_share` is the part of the window that this left. Then a moved mix alone is no drift. `silent_share`
    is the part of the window for which feedback is missing, and nobody knows what became of the answers.

    `season` says whether the window is like the same phase of the `period` before it; with `excused` it is no drift
    then. `mix_season` says so of its mix of answers; with `mix_new` that mix is new, and that was asked to be drift.
    `novel` says that requests became new to the version, by the evidence of this window and those before it.

    >>> r = StatisticResult(statistic=0.3, p_value=0.001, effect=0.3, floor=0.1, n_reference=600, n_current=300)
    >>> s = SignalResult(signal=Signal.CONFIDENCE, method="ks", result=r, adjusted_p=0.002, drifted=True)
    >>> c = DriftComparison(version=3, n_reference=600, n_current=300, alpha=0.02, permutations=999, seed=7,
    ...                     signals=(s,))
    >>> c.drifted, DriftComparison.from_json(c.to_json()) == c
    (True, True)
    """

    version: int
    n_reference: int
    n_current: int
    alpha: float
    permutations: int
    seed: int
    signals: tuple[SignalResult, ...]
    matched: bool = False
    matched_share: float = 1.0
    silent_share: float = 0.0
    season: Season = Season.NOT_ASKED
    period: str = ""
    excused: bool = False
    mix_season: Season = Season.NOT_ASKED
    mix_new: bool = False
    novel: bool = False

    @property
    def drifted(self) -> bool:
        """Whether a signal drifted that speaks of more than the mix of answers, or the time of day or week."""
        return self.novel or (not self.excused and any(signal.drifted for signal in self.telling))

    @property
    def mix_moved(self) -> bool:
        """Whether the answers are mixed in another way than in the reference."""
        return any(signal.drifted for signal in self.signals if signal.signal is Signal.PREDICTION)

    @property
    def mix_strange(self) -> bool:
        """Whether the mix is looked past, and is not one that returns with the day or the week."""
        return self.matched and self.mix_moved and self.mix_season is not Season.RETURNING

    @property
    def feedback_missing(self) -> bool:
        """Whether so little of the usual feedback came that somebody should look after it; that is no drift."""
        return self.silent_share >= _MISSING

    @property
    def telling(self) -> Sequence[SignalResult]:
        """The signals that may be drift, strongest first."""
        alone = self.matched and not self.mix_new
        return [signal for signal in self.signals if not (alone and signal.signal is Signal.PREDICTION)]

    @property
    def drifted_signals(self) -> tuple[Signal, ...]:
        """Return the signals that drifted, strongest first."""
        return tuple(signal.signal for signal in self.signals if signal.drifted)

    def released(self, settings: DriftSettings) -> bool:
        """Whether every signal is clean by the stricter release level, so that a warning may end."""
        if self.novel:
            return False
        level = min(0.5, self.alpha * settings.release)
        return self.excused or not any(
            s.adjusted_p < level and s.result.reaches(settings.release_floor) for s in self.telling
        )

    def like_reference(self, settings: DriftSettings) -> bool:
        """Whether nothing differs from the reference, by the stricter level, and the answers are mixed alike."""
        return not (self.excused or self.mix_moved) and self.released(settings)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with `drifted` beside them for readers of the JSON."""
        return {**asdict(self), "signals": [asdict(signal) for signal in self.signals], "drifted": self.drifted}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Return the comparison that `to_json` wrote."""
        signals = tuple(
            SignalResult(
                signal=Signal(item["signal"]),
                method=item["method"],
                result=StatisticResult(**item["result"]),
                adjusted_p=item["adjusted_p"],
                drifted=item["drifted"],
            )
            for item in facts["signals"]
        )
        rest = {name: facts[name] for name in ("version", "n_reference", "n_current", "alpha", "permutations", "seed")}
        names = ("matched", "matched_share", "silent_share", "period", "excused", "mix_new", "novel")
        later = {name: facts[name] for name in names if name in facts}
        return cls(
            signals=signals,
            season=Season(facts.get("season", "")),
            mix_season=Season(facts.get("mix_season", "")),
            **rest,
            **later,
        )


def compare(
    reference: ReferenceProfile, current: Window, settings: DriftSettings, rng: np.random.Generator
) -> DriftComparison:
    """Return the comparison of a window with the reference of the version that answered it.

    Takes some 0.3 s for 300 rows against 600, and under 1 s for 100,000: texts and embeddings are sampled.

    Raises:
        DataError: the window is smaller than `min_rows`, or another version answered some of it.
    """
    if len(current) < settings.min_rows:
        raise DataError(f"a window has {len(current)} rows; wait for at least {settings.min_rows} before comparing it")
    others = sorted(set(np.unique(current.versions).tolist()) - {reference.version})
    if others:
        raise DataError(
            f"a window for version {reference.version} has rows of versions {others}; use Window.of_version"
        )
    alpha = settings.alpha(n_reference=reference.seen_rows, n_current=len(current))
    signals = signals_of(reference, current)
    permutations = int(np.clip(np.ceil(2 * len(signals) / alpha), 499, 9_999))
    seed = int(rng.integers(2**31))
    alike = None if settings.mix_votes else same_mix(reference, current, seed)
    results = measure_all(
        {signal: settings.floors[signal] for signal in signals},
        reference,
        current,
        seed=seed,
        permutations=permutations,
        alike=alike,
    )
    adjusted = adjusted_of(results, matched=alike is not None)
    answers = [
        SignalResult(
            signal=signal,
            method=_METHODS[signal],
            result=result,
            adjusted_p=adjusted[signal],
            drifted=adjusted[signal] < alpha and result.relevant,
        )
        for signal, result in results.items()
    ]
    return DriftComparison(
        version=reference.version,
        n_reference=reference.seen_rows,
        n_current=len(current),
        alpha=alpha,
        permutations=permutations,
        seed=seed,
        signals=tuple(sorted(answers, key=_strength)),
        matched=alike is not None,
        matched_share=1.0 if alike is None else len(alike[1]) / len(current),
        silent_share=silent_share(reference.sample, current),
    )


def measure_all(
    floors: Mapping[Signal, float],
    reference: ReferenceProfile,
    current: Window,
    *,
    seed: int,
    permutations: int,
    alike: tuple[ReferenceProfile, Window] | None,
) -> dict[Signal, StatisticResult]:
    """Return each signal's statistic; where sides with one mix of answers are given, of those.

    The mix itself, and what became of the answers, are measured on all rows.
    """
    results = {}
    for signal, floor in floors.items():
        sides = (reference, current) if alike is None or signal in _OF_ALL_ROWS else alike
        results[signal] = measure(signal, *sides, seed=seed, permutations=permutations, floor=floor)
    return results


def same_mix(reference: ReferenceProfile, current: Window, seed: int) -> tuple[ReferenceProfile, Window] | None:
    """Both sides with one mix of answers; None where too few rows have it. The same seed draws the same rows."""
    matched = match_mix(reference.sample.predictions, current.predictions, np.random.default_rng([seed, _MATCHING]))
    if len(matched.current) < min(_LEAST_MATCHED, len(current)) or len(matched.reference) < _LEAST_MATCHED:
        return None
    return reference.of_rows(matched.reference), current.rows(matched.current)


def signals_of(reference: ReferenceProfile, current: Window) -> tuple[Signal, ...]:
    """Return the signals that can be compared: those whose column both sides have, outcomes of enough answers."""
    return tuple(signal for signal in Signal if _comparable(signal, reference.sample, current))


def _comparable(signal: Signal, sample: Window, current: Window) -> bool:
    if signal in OUTCOMES:
        sides = outcomes_of(signal, sample, current)
        return sides is not None and all(len(told_of(side)) >= _LEAST_TOLD for side in sides)
    if signal in _OF_WORDS and not current.has_words:
        return False
    column = _COLUMNS.get(signal)
    return column is None or all(getattr(side, column) is not None for side in (sample, current))


def measure(
    signal: Signal, reference: ReferenceProfile, current: Window, *, seed: int, permutations: int, floor: float
) -> StatisticResult:
    """Return one signal's statistic; the same seed gives the same answer.

    Where rows come in bursts, p-values are by permutations of whole bursts. What became of answers is compared row by
    row all the same.
    """
    rng = np.random.default_rng([seed, list(Signal).index(signal)])
    sample, some = reference.sample, _some(current, seed) if signal in _OF_SOME_ROWS else current
    bursts = in_bursts(reference.bursts_of(signal is Signal.UNKNOWN_WORDS), some.own_bursts)
    by: dict[str, Any] = {"rng": rng, "permutations": permutations, "floor": floor, "bursts": bursts}
    match signal:
        case Signal.CONFIDENCE:
            return ks(*_both(signal, sample, some), **by)
        case Signal.ENTROPY:
            return wasserstein(*_both(signal, sample, some), **by)
        case Signal.PREDICTION:
            kept = labels_of(reference.label_counts) if bursts is None else sample.predictions
            return chi_square(kept, some.predictions, **by)
        case Signal.LENGTH:
            return ks(sample.lengths, some.lengths, **by)
        case Signal.NON_LETTER:
            return ks(sample.non_letters, some.non_letters, **by)
        case Signal.UNKNOWN_WORDS:
            return ks(reference.unknown_shares, reference.unknown_shares_of(some), **by)
        case Signal.BRIGHTNESS | Signal.SIZE:
            return ks(*_both(signal, sample, some), **by)
        case Signal.EMBEDDING:
            return rff_mmd(*_both(signal, sample, some), **by)
        case Signal.DOMAIN:
            return classifier_auc(*_both(signal, sample, some), **by)
        case Signal.POPULARITY:
            return ks(*_both(signal, sample, current), floor=floor)
        case Signal.HIT_RATE | Signal.NEW_ITEMS:
            towards: Literal[-1, 1] = -1 if signal is Signal.HIT_RATE else 1
            return share_shift(*_both(signal, sample, current), towards=towards, floor=floor)


def _both(signal: Signal, sample: Window, current: Window) -> tuple[NDArray[Any], NDArray[Any]]:
    """What a signal compares, on both sides."""
    column = OUTCOMES.get(signal) or _COLUMNS[signal]
    sides = getattr(sample, column), getattr(current, column)
    if any(side is None for side in sides):
        raise DataError(f"signal {signal} needs {column} on both sides; log them, or leave the signal out")
    told = outcomes_of(signal, sample, current) if signal in OUTCOMES else None
    return sides if told is None else (told_of(told[0]), told_of(told[1]))


def adjusted_of(results: Mapping[Signal, StatisticResult], *, matched: bool) -> dict[Signal, float]:
    """Return each signal's p-value, adjusted among those that together may say drift: a matched mix stands alone."""
    alone = {Signal.PREDICTION} if matched else set()
    p_values = {signal: result.p_value for signal, result in results.items()}
    family = holm({signal: p for signal, p in p_values.items() if signal not in alone})
    return {**{signal: p_values[signal] for signal in p_values if signal in alone}, **family}


def holm(p_values: Mapping[Signal, float]) -> dict[Signal, float]:
    """Return p-values adjusted so that the chance of any false alarm among them is at most the level.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.

    >>> holm({Signal.CONFIDENCE: 0.01, Signal.LENGTH: 0.04})
    {<Signal.CONFIDENCE: 'confidence'>: 0.02, <Signal.LENGTH: 'length'>: 0.04}
    """
    adjusted: dict[Signal, float] = {}
    largest = 0.0
    ranked = sorted(p_values.items(), key=lambda item: item[1])
    for position, (signal, p_value) in enumerate(ranked):
        largest = max(largest, min(1.0, (len(ranked) - position) * p_value))
        adjusted[signal] = largest
    return adjusted


def labels_of(counts: Mapping[str, int]) -> list[str]:
    """Return each label as often as it was counted, e.g. for every row that a reference saw."""
    return [label for label, count in counts.items() for _ in range(count)]


def _some(current: Window, seed: int) -> Window:
    if len(current) <= TEXT_ROWS:
        return current
    return current.rows(np.sort(np.random.default_rng(seed).choice(len(current), TEXT_ROWS, replace=False)))


def _strength(answer: SignalResult) -> tuple[bool, float, float]:
    return (not answer.drifted, answer.adjusted_p, -answer.result.effect / max(answer.result.floor, 1e-9))
