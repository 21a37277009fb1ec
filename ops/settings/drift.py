"""How traffic is watched."""

from typing import Literal

from pydantic import Field

from perennial.ops.settings.section import Section

__all__ = ["DriftWatchSettings"]


class DriftWatchSettings(Section):
    """How traffic is watched."""

    window_rows: int = Field(200, ge=50, description="answered requests in one comparison; windows never overlap")
    reference_rows: int = Field(600, ge=100, description="first requests of a new champion that become its reference")
    copies_within: int = Field(
        1_000,
        ge=0,
        le=10_000,
        description="a request that a caller repeats within so many requests counts once; 0 counts every request",
    )
    caller_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="most that one caller has of the requests that count, where there are many callers",
    )
    answer_mix: Literal["told", "new", "drift"] = Field(
        "told",
        description="another mix of the same answers is told alone, or is drift: where no phase of the day and week "
        "before had it (new), or always (drift)",
    )
    seasons: Literal["found", "day", "week", "none"] = Field(
        "found",
        description="what traffic turns with: found looks back a day and a week; by a declared one, a phase that was "
        "not seen once raises nothing",
    )
    votes: Literal["2 of 3", "3 of 5"] = "2 of 3"
    cooldown_requests: int = Field(1_000, ge=0, description="requests between two alerts at the least")
    requests_per_false_retraining: int = Field(
        100_000, ge=1_000, description="at most one false retraining per so many clean requests"
    )
    worth_points: float = Field(
        1.0, ge=0, lt=100, description="points of score that learning must buy before it is worth a retraining"
    )
    report_every_windows: int = Field(
        10, ge=1, description="an Evidently report at least this often, and at the first alert of an episode"
    )
    reports_kept: int = Field(50, ge=1)
    report_timeout_s: float = Field(120.0, gt=0)
    feedback_within_s: float = Field(
        600.0,
        gt=0,
        description="of answers that users like or pass over: how long after one it is looked at what became of it",
    )
    accuracy_rows: int = Field(
        500, ge=50, description="newest answers, and newest labels, from which the champion's accuracy is told"
    )
    random_label_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the answers, by a hash, that is labelled whatever they are and alone measures accuracy; "
        "0 takes every label",
    )
    abstain_below: float = Field(
        0.5, gt=0, lt=1, description="an answer of less confidence counts as an abstention for the sequential watch"
    )
