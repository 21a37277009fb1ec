"""The names of learners, for settings and commands that load no learner."""

from enum import StrEnum

__all__ = ["DEFAULT_LEARNER", "LearnerName"]


class LearnerName(StrEnum):
    """Which learner makes the model: seconds for a closed form (all but the last), minutes for fine-tuning."""

    KERNEL_LDA = "kernel_lda"
    RIDGE = "ridge"
    AUTO = "auto"  # the better of the two, by held-out rows
    FINETUNE = "finetune"


DEFAULT_LEARNER = LearnerName.KERNEL_LDA
