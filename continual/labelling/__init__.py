"""Which traffic is worth a label, what the labelled part says about all of it, and which labels to doubt."""

from perennial.continual.labelling.batches import Choice, speaks_for
from perennial.continual.labelling.doubts import doubts_of
from perennial.continual.labelling.estimate import Estimate, estimate_accuracy
from perennial.continual.labelling.noise import Doubt, doubt_labels
from perennial.continual.labelling.novelty import novelty
from perennial.continual.labelling.select import Reason, Selected, Shares, select

__all__ = [
    "Choice",
    "Doubt",
    "Estimate",
    "Reason",
    "Selected",
    "Shares",
    "doubt_labels",
    "doubts_of",
    "estimate_accuracy",
    "novelty",
    "select",
    "speaks_for",
]
