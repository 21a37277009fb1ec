"""The way of a challenger to the championship, and how often the loop looks."""

from typing import Literal

from pydantic import Field

from perennial.ops.settings.section import Section

__all__ = ["CycleSettings", "ScheduleSettings"]


class CycleSettings(Section):
    """What stands between the gate and the championship."""

    approval: Literal["automatic", "operator"] = "automatic"
    approval_deadline_s: float = Field(86_400.0, gt=0)
    shadow: bool = False
    shadow_rows: int = Field(500, ge=50)
    shadow_rows_per_s: float = Field(100.0, gt=0, description="most texts a second that a shadow replay answers")
    canary: Literal["auto", "off"] = Field(
        "auto",
        description="auto: a canary at 5% and 25% comes where canary_limit_s brings enough labels and requests; "
        "canary_shares say it instead",
    )
    canary_shares: tuple[float, ...] = Field((), description="live shares in rising order; [] leaves the canary out")
    canary_step_s: float = Field(60.0, gt=0, description="least time at each share")
    canary_limit_s: float = Field(3_600.0, gt=0, description="a canary that labels have not decided is judged then")
    margin_points: float = Field(3.0, gt=0, lt=100, description="points of accuracy that a rollout must tell apart")
    rollout_error_rate: float = Field(
        0.10, gt=0, lt=0.5, description="most challengers of equal quality that are turned away for it"
    )
    latency_ratio: float = Field(
        1.5, ge=1, description="a challenger's answer is slow beyond this times the champion's 95th percentile"
    )
    step_patience_s: float = Field(
        300.0, ge=0, description="a step goes on trying for so long while Triton or the ledger cannot be reached"
    )
    probation_s: float = Field(
        604_800.0, ge=0, description="probation lasts so long where labels prove nothing before; 0 switches it off"
    )
    probation_least_s: float = Field(
        300.0, ge=0, description="failures and times are watched for so long, whatever the labels prove"
    )
    resident_versions: int = Field(2, ge=1, description="versions that Triton holds: the champion and those before it")
    disk_versions: int = Field(10, ge=2, description="bundles kept on disk")
    min_gain_points: float = 0.0
    max_forgetting_points: float = Field(1.0, ge=0)
    min_fresh_rows: int = Field(20, ge=0, description="fresh held-out rows that a judgement needs")

    @property
    def canary_is_named(self) -> bool:
        """Whether the settings say which shares a canary has, or that there is none."""
        return self.canary == "off" or "canary_shares" in self.model_fields_set


class ScheduleSettings(Section):
    """How often the loop looks, in seconds, and how much of its work is done at once."""

    trainings_at_once: int = Field(
        1, ge=1, description="models that train, export or are judged at the same time; the others wait their turn"
    )
    warm_jobs: bool = Field(
        True,
        description="keep a process ready from which jobs begin at once: an update, or a first version's export, takes "
        "seconds less, and the machine holds about 100 MB more",
    )
    watch_s: float = Field(10.0, gt=0)
    watch_share: float = Field(
        0.01,
        gt=0,
        le=1,
        description="share of the machine's processors that watching, and routine reports, may each take while "
        "processors are short; what does not fit is sampled",
    )
    retrain_check_s: float = Field(
        10.0, gt=0, description="how often the policy is asked; labels that come have it asked within a second"
    )
    reconcile_s: float = Field(15.0, gt=0)
    compact_s: float = Field(300.0, gt=0)
    retention_s: float = Field(86_400.0, gt=0)
    report_s: float = Field(5.0, gt=0, description="how soon a wanted Evidently report is begun")
    events_s: float = Field(60.0, gt=0, description="how often the watch of events is looked after")
    notify_s: float = Field(2.0, gt=0, description="how soon people are told")
