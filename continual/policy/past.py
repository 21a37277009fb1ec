"""What a policy would have seen, had a model's first version answered everything: logged rows become a history."""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from perennial.continual import labelling
from perennial.continual.drift import DriftComparison, DriftMonitor, DriftSettings, Level, ReferenceProfile, Window
from perennial.continual.drift import compare as compare_windows
from perennial.continual.drift.accuracy import ConfidenceCalibration, estimate_accuracy, in_random_share
from perennial.continual.policy.facts import DriftState, MeasuredShare
from perennial.continual.policy.replay import History, HistoryPoint

__all__ = ["PastKnowledge", "PastRows", "PastRules", "changes_in", "history_of"]

_LEAST_SCORED = 50  # answers with a score, below which nothing is measured
_UNKNOWN_CHANCE = 1e-6  # equal for all, and small: the interval speaks for all traffic, not for the scored part of it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PastRows:
    """The logged requests as the kept version answers them, and what became known of each; all of one length.

    `scores` are the kept version's, `fresh_scores` those of the present one on held-out rows; None where not known.
    `counted` says which rows a window counts.
    """

    window: Window
    at: Sequence[datetime]
    targets: Sequence[str | None]
    target_at: Sequence[datetime | None]
    scores: Sequence[float | None]
    fresh_scores: Sequence[float | None]
    counted: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRules:
    """How the past is looked at; the same as the present is."""

    drift: DriftSettings
    window_rows: int
    quality_rows: int
    random_share: float
    seed: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PastKnowledge:
    """What is known of the past beside its rows.

    Windows are compared with `reference`, whose sample may be some of the first rows; `start` is the place of the first
    row behind it. `sample_scores` are the sample's by place, where known. `changes` are when the world changed,
    `learnt_at` when the rows came that a retraining may learn, and `proved_at` when those came that prove it, all in
    order. It needs `proof_needed` of the latter; `training_s` is how long one takes.
    """

    reference: ReferenceProfile
    start: int
    sample_scores: Mapping[int, float]
    changes: Sequence[datetime]
    learnt_at: Sequence[datetime]
    training_s: float
    proved_at: Sequence[datetime] = ()
    proof_needed: int = 0


def changes_in(rows: PastRows, known: Collection[str], *, least: int, near: int) -> list[datetime]:
    """The times at which targets begin that a version does not know; those within `near` rows are one change."""
    places: dict[str, list[int]] = {}
    for i, target in enumerate(rows.targets):
        if target is not None and target not in known:
            places.setdefault(target, []).append(i)
    begun = sorted(at_places[0] for at_places in places.values() if len(at_places) >= least)
    return [rows.at[place] for before, place in zip([-near - 1, *begun], begun, strict=False) if place - before > near]


def history_of(rows: PastRows, known: PastKnowledge, rules: PastRules) -> History:
    """The history of the rows, which come in order of time, in windows that never overlap."""
    return History(
        champion_since=_before(rows, known.start),
        points=tuple(_points(rows, known, rules)),
        changes=tuple(known.changes),
        reference_quality=_quality_of(known.reference.sample, known.sample_scores),
        training_s=known.training_s,
        proof_needed=known.proof_needed,
    )


def _before(rows: PastRows, start: int) -> datetime:
    return rows.at[start - 1] if start else rows.at[0]


def _points(rows: PastRows, known: PastKnowledge, rules: PastRules) -> Iterator[HistoryPoint]:
    size = rules.window_rows
    calibration = _calibration(known.reference.sample, known.sample_scores)
    episode = _Episode(rules, known.start)
    gains = _gains(rows, known.changes)
    before = _before(rows, known.start)
    counted = known.start + np.flatnonzero(rows.counted[known.start :])
    first = known.start
    for number, begin in enumerate(range(0, len(counted) - size + 1, size)):
        places = counted[begin : begin + size]
        last = int(places[-1]) + 1
        at = rows.at[last - 1]
        rng = np.random.default_rng([rules.seed, rules.version, number])
        comparison = compare_windows(known.reference, rows.window.rows(places), rules.drift, rng)
        state, since, signals = episode.goes_on(comparison, last, before)
        kept = [score for score in rows.scores[first:last] if score is not None]
        quality = float(np.mean(kept)) if kept else None
        gain = gains[sum(change <= at for change in known.changes)]
        yield HistoryPoint(
            at=at,
            requests=last - first,
            feedback=_between(known.learnt_at, before, at),
            proof=_between(known.proved_at, before, at),
            drift=state,
            drift_since=since,
            drift_signals=signals,
            alerted_since=episode.alerted_since,
            estimated_quality=_estimated(rows, last, rules, calibration),
            measured_quality=_measured(rows, last, at, rules),
            accuracy_kept=quality,
            accuracy_fresh=None if quality is None or gain is None else min(1.0, max(0.0, quality + gain)),
        )
        before, first = at, last


def _between(moments: Sequence[datetime], since: datetime, until: datetime) -> int:
    return bisect_left(moments, until) - bisect_left(moments, since)


class _Episode:
    """The drift monitor, and since when the present episode lasts."""

    def __init__(self, rules: PastRules, start: int) -> None:
        self._monitor = DriftMonitor(settings=rules.drift)
        self._state = self._monitor.start(rules.version, now_request=start)
        self._began: datetime | None = None
        self.alerted_since: datetime | None = None  # when the newest one began that came to an alert

    def goes_on(
        self, comparison: DriftComparison, request: int, before: datetime
    ) -> tuple[DriftState, datetime | None, tuple[str, ...]]:
        """The state after one more window that began at `before`, since when it lasts, and the signals behind it."""
        self._state, signal = self._monitor.update(self._state, comparison, request)
        if comparison.drifted and self._began is None:
            self._began = before
        elif self._state.level is Level.OK:
            self._began = None
        in_alert = self._state.level in {Level.ALERT, Level.COOLDOWN} and self._began is not None
        if in_alert:
            self.alerted_since = self._began
        state = DriftState.ALERT if in_alert else DriftState(self._state.level.value)
        return state, self._began, tuple(each.value for each in signal.signals)


def _estimated(rows: PastRows, last: int, rules: PastRules, calibration: ConfidenceCalibration | None) -> float | None:
    """What the confidence of the newest answers promises; None of answers that have none."""
    confidences = rows.window.confidences
    return (
        None
        if confidences is None
        else estimate_accuracy(confidences[max(0, last - rules.quality_rows) : last], calibration).value
    )


def _measured(rows: PastRows, last: int, now: datetime, rules: PastRules) -> MeasuredShare | None:
    share, ids = rules.random_share, rows.window.ids
    known = [
        (target_at, i, score)
        for i in range(last)
        if (target_at := rows.target_at[i]) is not None
        and (score := rows.scores[i]) is not None
        and target_at <= now
        and ids is not None
        and (share == 0 or in_random_share(str(ids[i]), share))
    ]
    newest = [score for _, _, score in sorted(known)[-rules.quality_rows :]]
    if len(newest) < _LEAST_SCORED:
        return None
    estimate = labelling.estimate_accuracy(newest, [share or _UNKNOWN_CHANCE] * len(newest))
    return MeasuredShare(value=estimate.accuracy, low=estimate.low, high=estimate.high, rows=len(newest))


def _calibration(sample: Window, scores: Mapping[int, float]) -> ConfidenceCalibration | None:
    if sample.confidences is None or len(scores) < 2 * _LEAST_SCORED:
        return None
    return ConfidenceCalibration.fit(sample.confidences[list(scores)], np.asarray(list(scores.values())))


def _quality_of(sample: Window, scores: Mapping[int, float]) -> float | None:
    if len(scores) >= _LEAST_SCORED:
        return float(np.mean(list(scores.values())))
    return None if sample.confidences is None else estimate_accuracy(sample.confidences).value


def _gains(rows: PastRows, changes: Sequence[datetime]) -> list[float | None]:
    """For each stretch between changes: the present version's quality minus the kept one's, on held-out rows."""
    edges = [0, *(bisect_left(rows.at, change) for change in changes), len(rows.at)]
    gains: list[float | None] = []
    for first, last in pairwise(edges):
        differences = [
            fresh - (score or 0.0)
            for fresh, score in zip(rows.fresh_scores[first:last], rows.scores[first:last], strict=True)
            if fresh is not None
        ]
        gains.append(float(np.mean(differences)) if differences else None)
    return gains
