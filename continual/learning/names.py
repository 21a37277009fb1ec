"""The names of learners, for settings and commands that load no learner."""

from enum import StrEnum

__all__ = ["DEFAULT_LEARNER", "LearnerName"]


class LearnerName(StrEnum):
    """Which learner makes the model: seconds for the closed-form head, minutes for fine-tuning."""

    KERNEL_LDA = "kernel_lda"
    FINETUNE = "finetune"


DEFAULT_LEARNER = LearnerName.KERNEL_LDA
