"""What the watch follows request by request, beside its windows: doubt, abstentions, and how many requests are new."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from perennial.continual.drift.compare import DriftComparison
from perennial.continual.drift.novelty import NoveltyState, with_novelty
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.seasons import Phase
from perennial.continual.drift.sequential import EDetector, EDetectorState, abstained, doubt, upper_bound
from perennial.continual.drift.window import Window
from perennial.ops.settings.drift import DriftWatchSettings

__all__ = ["Followed", "followed"]

_NOVELTY = "novelty"
_SPARE = 10  # what is new takes a tenth of the operator's budget of false retrainings


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """The states to keep, what they tell a person, and the window's comparison with what they say of it."""

    states: dict[str, Any]
    told: dict[str, Any]
    comparison: DriftComparison


def followed(
    kept: Mapping[str, Any] | None,
    settings: DriftWatchSettings,
    comparison: DriftComparison,
    reference: ReferenceProfile,
    window: Window,
    phases: Callable[[], Mapping[str, Phase]],
    rng: np.random.Generator,
    *,
    declared: bool,
) -> Followed:
    """Take a window's requests into account, one by one; answers that lack what a sequence follows are left out of it.

    `kept` are the states after the window before. `phases` are asked for at an alarm; see `with_novelty`.
    """
    before = kept or {}
    states, told = _confidences(before, settings, reference, window)
    state = (
        NoveltyState.from_json(before[_NOVELTY])
        if _NOVELTY in before
        else NoveltyState.begun(reference, run_length=float(_SPARE * settings.requests_per_false_retraining))
    )
    if state is not None:
        after, comparison = with_novelty(comparison, state, reference, window, phases, rng, declared=declared)
        states[_NOVELTY] = after.to_json()
        told[_NOVELTY] = {
            "bound": after.mean,
            "evidence": after.evidence,
            "alarms": after.detector.alarms - state.detector.alarms,
        }
    return Followed(states=states, told=told, comparison=comparison)


def _confidences(
    before: Mapping[str, Any], settings: DriftWatchSettings, reference: ReferenceProfile, window: Window
) -> tuple[dict[str, Any], dict[str, Any]]:
    if reference.sample.confidences is None or window.confidences is None:
        return {}, {}
    states: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for name, values_of in (
        ("doubt", doubt),
        ("abstained", lambda confidences: abstained(confidences, settings.abstain_below)),
    ):
        kept = before.get(name)
        bound = upper_bound(values_of(reference.sample.confidences)) if kept is None else kept["bound"]
        detector = EDetector(bound=bound, run_length=settings.requests_per_false_retraining)
        state = detector.start() if kept is None else EDetectorState.from_json(kept["state"])
        state, alarms = detector.update(state, values_of(window.confidences))
        states[name] = {"bound": bound, "state": state.to_json()}
        told[name] = {"bound": bound, "evidence": state.value, "alarms": len(alarms)}
    return states, told
