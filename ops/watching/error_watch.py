"""Follows the champion's labelled errors one by one: what sees a change of concept, which no text shows."""

import logging
from dataclasses import replace
from typing import Protocol

from perennial.continual.drift.sequential import EDetector, EDetectorState, errors, upper_bound
from perennial.ops.ledger.ports import Labels, State
from perennial.ops.store.state import ERRORS, ErrorState
from perennial.ops.traffic import TrafficLog
from perennial.ops.watching.accuracy import AccuracyWatch

__all__ = ["ErrorWatch"]

logger = logging.getLogger(__name__)
_LEAST = 100  # labels of the first traffic that the bound is taken from
_CALM = 10.0  # evidence below which nothing seems to have begun
_RELEASE = 1_000  # labels without another alarm after which an alarm is over
_PAGE = 2_000
_SPARE = 10  # the error watch takes a tenth of the operator's budget of false retrainings


class ErrorLedger(Labels, State, Protocol):
    """Where labels come from, and where the watch remembers how far it is."""


class ErrorWatch:
    """Takes each label into account once, in the order in which answers were first labelled.

    A correction that comes after its label was counted is not counted again.
    """

    def __init__(
        self, ledger: ErrorLedger, model: str, traffic: TrafficLog, accuracy: AccuracyWatch, requests_per_false: int
    ) -> None:
        self._ledger, self._model, self._traffic = ledger, model, traffic
        self._accuracy = accuracy
        self._run_length = float(_SPARE * requests_per_false)

    def look(self, champion: int) -> ErrorState:
        """Take the labels that came since the last pass, and return the state; a repeated pass changes nothing."""
        before = ErrorState.of(self._ledger, self._model, champion)
        state = before or ErrorState(version=champion, run_length=self._run_length)
        if state.bound is None:
            state = self._begin(state)
        while state.bound is not None:
            page = self._ledger.first_feedback(self._model, _PAGE, after_id=state.cursor)
            if not page:
                break
            state = self._take(state, [(p.prediction_id, p.label) for p in page], page[-1].id)
        if state != before:
            ERRORS.keep(self._ledger, self._model, state)
        return state

    def _begin(self, state: ErrorState) -> ErrorState:
        """Take the bound from the labels of the champion's first traffic, once there are enough."""
        first = self._accuracy.first_labels(state.version)
        if len(first) < _LEAST:
            return state
        answers, labels = [predicted for _, predicted, _ in first], [label for _, _, label in first]
        bound = upper_bound(errors(answers, labels, self._accuracy.score))
        detector = EDetector(bound=bound, run_length=self._run_length)
        return replace(state, bound=bound, run_length=self._run_length, detector=detector.start().to_json())

    def _take(self, state: ErrorState, pairs: list[tuple[str, str]], cursor: int) -> ErrorState:
        known = self._accuracy.first_ids(state.version)
        labels = {name: label for name, label in pairs if name not in known and self._accuracy.counts(name)}
        columns = ["prediction_id", "prediction", "version", "at"]
        rows = self._traffic.lookup(list(labels), columns=columns).to_pylist() if labels else []
        answered = {row["prediction_id"]: row for row in rows if row["version"] == state.version}
        chosen = [answered[name] for name in labels if name in answered]
        if not chosen or state.bound is None or state.detector is None:
            return replace(state, cursor=cursor)
        answers, truths = [row["prediction"] for row in chosen], [labels[row["prediction_id"]] for row in chosen]
        values = errors(answers, truths, self._accuracy.score)
        detector = EDetector(bound=state.bound, run_length=state.run_length)
        after, alarms = detector.update(EDetectorState.from_json(state.detector), values)
        state = replace(state, cursor=cursor, detector=after.to_json())
        newest = max(row["at"] for row in chosen).isoformat()
        if alarms and state.alarm_since is None:
            since = state.calm_at or min(row["at"] for row in chosen).isoformat()
            facts = {"model": self._model, "version": state.version, "since": since, "labels": after.seen}
            logger.warning("drift.errors_rose", extra=facts)
            return replace(state, alarm_since=since)
        if after.last_alarm is not None and after.seen - after.last_alarm >= _RELEASE:
            state = replace(state, alarm_since=None)
        if state.alarm_since is None and after.value < _CALM:
            state = replace(state, calm_at=newest)
        return state
