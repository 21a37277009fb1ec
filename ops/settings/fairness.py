"""Whom a model may not treat worse, and how that is measured."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator

from perennial.continual.errors import DataError
from perennial.continual.preparation import check_attribute_names
from perennial.ops.settings.section import Section

if TYPE_CHECKING:
    from perennial.continual.fairness.limits import FairnessLimit

__all__ = ["FairnessLimitSettings", "FairnessSettings"]


class FairnessLimitSettings(Section):
    """One limit that the gate holds challengers to."""

    attribute: str
    figure: Literal[
        "accuracy_difference",
        "accuracy_ratio",
        "selection_rate_difference",
        "selection_rate_ratio",
        "false_positive_rate_difference",
        "false_positive_rate_ratio",
        "false_negative_rate_difference",
        "false_negative_rate_ratio",
    ]
    bound: float = Field(ge=0, le=1)
    label: str | None = None


class FairnessSettings(Section):
    """Whom a model may not treat worse; docs/fairness.md."""

    attributes: tuple[str, ...] = Field(
        (), description="columns of rows and labels that say whose they are, e.g. region; kept, and never learnt from"
    )
    least_rows: int = Field(30, ge=1, description="rows of a group, below which it is shown and not compared")
    limits: tuple[FairnessLimitSettings, ...] = Field(
        (), description="each with attribute, figure, bound and perhaps label; a challenger surely beyond is refused"
    )
    most_changed_by_names: float | None = Field(
        None, ge=0, le=1, description="share of answers that another group's names may change, beyond its own names"
    )
    most_changed_by_wording: float | None = Field(
        None, ge=0, le=1, description="share of answers that another group's wording may change"
    )

    @field_validator("attributes")
    @classmethod
    def _names_are_free(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        try:
            check_attribute_names(names)
        except DataError as exc:
            raise ValueError(str(exc)) from exc
        return names

    @model_validator(mode="after")
    def _limits_are_of_attributes(self) -> Self:
        for limit in self.limits:
            if limit.attribute not in self.attributes:
                declared = ", ".join(self.attributes) or "none"
                raise ValueError(f"limits name {limit.attribute!r}, and attributes declares {declared}; add it there")
        return self

    def as_limits(self) -> "tuple[FairnessLimit, ...]":
        """The limits as the gate takes them."""
        from perennial.continual.fairness.limits import FairnessLimit

        return tuple(FairnessLimit(**limit.model_dump(), least_rows=self.least_rows) for limit in self.limits)
