"""Whether a canary comes by itself: where what comes within its limit can tell something."""

import pytest

from perennial.continual.rollout import CanaryChoice
from perennial.ops.settings import CycleSettings

_WEEK_S = 604_800.0


def choice(
    *, labels: float = 40.0, requests: float = 2_000.0, limit_s: float = 3_600.0, probation_s: float = _WEEK_S
) -> CanaryChoice:
    return CanaryChoice.by_traffic(
        labels_per_hour=labels, requests_per_hour=requests, limit_s=limit_s, probation_s=probation_s
    )


def test_enough_labels_and_requests_bring_a_canary() -> None:
    assert choice().shares == (0.05, 0.25)
    assert choice(labels=2.0, limit_s=86_400.0).shares == (0.05, 0.25), "a longer limit waits for more"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"labels": 29.0}, "about 29 labels"),
        ({"requests": 300.0}, "about 15 requests would be its own"),
        ({"probation_s": 60.0}, "longer than the probation of 60 s"),
        ({"probation_s": 0.0}, "longer than the probation"),
    ],
)
def test_what_can_tell_nothing_is_left_out_and_said(given: dict[str, float], why: str) -> None:
    told = choice(**given)
    assert told.shares == ()
    assert why in told.sentence
    assert "probation watches alone" in told.sentence


@pytest.mark.parametrize(
    ("given", "named"),
    [({}, False), ({"canary": "auto"}, False), ({"canary": "off"}, True), ({"canary_shares": []}, True)],
)
def test_settings_that_name_the_canary_stay_as_they_are(given: dict[str, object], named: bool) -> None:
    settings = CycleSettings.model_validate(given)
    assert settings.canary_is_named is named
    assert settings.canary_shares == ()
