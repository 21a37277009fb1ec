"""How much a challenger's answers may be disturbed."""

from pydantic import Field, field_validator

from perennial.continual.robustness.names import CHANGE_NAMES
from perennial.ops.settings.section import Section

__all__ = ["RobustnessSettings"]


class RobustnessSettings(Section):
    """How much a challenger's answers may be disturbed; docs/fairness.md."""

    most_lost_points: dict[str, float] = Field(
        default_factory=dict,
        description="by the name of a change, e.g. typos: points of accuracy that it may cost a challenger",
    )

    @field_validator("most_lost_points")
    @classmethod
    def _changes_are_known(cls, limits: dict[str, float]) -> dict[str, float]:
        for name, limit in limits.items():
            if name not in CHANGE_NAMES:
                raise ValueError(f"{name!r} is no change of texts; use one of {', '.join(CHANGE_NAMES)}")
            if not 0.0 <= limit <= 100.0:
                raise ValueError(f"the limit on {name!r} is {limit}; it is in points, from 0 to 100")
        return limits
