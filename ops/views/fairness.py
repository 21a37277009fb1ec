"""What is known of how a version treats groups of people: slices, limits, and what probes found."""

from collections.abc import Sequence
from dataclasses import dataclass

from perennial.continual.bounds import BoundedFigure
from perennial.continual.fairness import AttributeSlices, FairnessLimit, slices_of
from perennial.continual.quality import HeldOutAnswers
from perennial.continual.records import Example
from perennial.ops.settings.fairness import FairnessSettings

__all__ = ["FairnessView", "LimitView", "fairness_view"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitView:
    """One limit of the settings with what was measured; None where no two groups have rows enough."""

    limit: FairnessLimit
    figure: BoundedFigure | None

    @property
    def told(self) -> str:
        """Whether it is kept."""
        if self.figure is None:
            return "not measured: no two groups have rows enough"
        value, beyond = self.figure.value, self.figure.reason is not None
        if beyond:
            return "surely beyond the limit"
        if (value.high <= self.limit.bound) if self.figure.most else (value.low >= self.limit.bound):
            return "surely within the limit, of the two groups that are most surely apart"
        return "not decided: the interval holds the limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessView:
    """Slices of each declared attribute that some held-out row has, and those that none has.

    Nothing is measured where the version's answers to them were not kept, as of one that was only exported anew.
    """

    attributes: tuple[AttributeSlices, ...]
    without_rows: tuple[str, ...]
    limits: tuple[LimitView, ...]
    least_rows: int
    answered: bool = True


def fairness_view(
    settings: FairnessSettings, proof: Sequence[Example], answers: HeldOutAnswers | None
) -> FairnessView | None:
    """The view on a version's answers to the rows that proved it; None where no attribute is declared."""
    if not settings.attributes:
        return None
    if answers is None:
        return FairnessView(attributes=(), without_rows=(), limits=(), least_rows=settings.least_rows, answered=False)
    found, empty, limits = [], [], []
    labels, given = answers.labels, answers.given
    groups = {name: [row.attributes.get(name) for row in proof] for name in settings.attributes}
    for name in settings.attributes:
        if not any(groups[name]):
            empty.append(name)
            continue
        found.append(slices_of(name, groups[name], labels, given, least_rows=settings.least_rows))
    for limit in settings.as_limits():
        figure = limit.measured(groups[limit.attribute], labels, given, given)
        limits.append(LimitView(limit=limit, figure=figure))
    return FairnessView(
        attributes=tuple(found), without_rows=tuple(empty), limits=tuple(limits), least_rows=settings.least_rows
    )
