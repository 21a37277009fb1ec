"""One label for one text."""

from perennial.continual.tasks.text_classification.task import TextClassification

__all__ = ["TextClassification"]
