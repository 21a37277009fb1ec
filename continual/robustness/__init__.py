"""How a version's answers bear what people do to texts: typos, case, other words, other signs for the same letters."""

from perennial.continual.robustness.changes import CHANGES, Change
from perennial.continual.robustness.figures import ChangedAnswers, changed_answers

__all__ = ["CHANGES", "Change", "ChangedAnswers", "changed_answers"]
