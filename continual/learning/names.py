"""The names of learners, for settings and commands that load no learner."""

from collections.abc import Mapping
from enum import StrEnum

from perennial.continual.errors import ConfigurationError

__all__ = ["AUTO_ENCODER", "DEFAULT_LEARNER", "LEARNERS_OF", "LearnerName", "default_learner"]

AUTO_ENCODER = "auto"  # leaves the choice of an encoder to the rows; see `encoder_choice`


class LearnerName(StrEnum):
    """Which learner makes the model: seconds for a closed form and for sums of items, minutes for fine-tuning."""

    KERNEL_LDA = "kernel_lda"
    RIDGE = "ridge"
    AUTO = "auto"  # of the two the better one by held-out rows; it stays until a kernel LDA is outgrown
    FINETUNE = "finetune"
    ITEM_GRAM = "item_gram"
    REWRITER = "rewriter"


_OF_LABELLED_TEXTS = (LearnerName.AUTO, LearnerName.RIDGE, LearnerName.KERNEL_LDA, LearnerName.FINETUNE)
_OF_IMAGES = (LearnerName.AUTO, LearnerName.RIDGE, LearnerName.KERNEL_LDA)
LEARNERS_OF: Mapping[str, tuple[LearnerName, ...]] = {
    "generation": (LearnerName.REWRITER,),
    "image_classification": _OF_IMAGES,
    "opinion": _OF_LABELLED_TEXTS,
    "ranking": (LearnerName.ITEM_GRAM,),
    "replies": _OF_LABELLED_TEXTS,
    "text_classification": _OF_LABELLED_TEXTS,
}  # by task, the default first
DEFAULT_LEARNER = LearnerName.AUTO


def default_learner(task: str) -> LearnerName:
    """The learner of a model whose settings name none.

    Raises:
        ConfigurationError: no learner makes models of this task.

    >>> default_learner("ranking").value
    'item_gram'
    """
    if task not in LEARNERS_OF:
        raise ConfigurationError(f"task {task!r} has no learner; use one of {', '.join(sorted(LEARNERS_OF))}")
    return LEARNERS_OF[task][0]
