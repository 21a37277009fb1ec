"""Whether people of some kind are answered worse than others: slices by a declared attribute, and what is probed."""

from perennial.continual.fairness.limits import FairnessLimit
from perennial.continual.fairness.slices import AttributeSlices, ClassRates, Gap, GroupFigures, slices_of

__all__ = ["AttributeSlices", "ClassRates", "FairnessLimit", "Gap", "GroupFigures", "slices_of"]
