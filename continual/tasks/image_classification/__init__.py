"""Image classification: what an image shows, as one of the labels."""

from perennial.continual.tasks.image_classification.task import ImageClassification

__all__ = ["ImageClassification"]
