"""The tasks by name. Each is a folder that knows its own inputs, answers and targets; nothing else does."""

from perennial.continual.errors import ConfigurationError
from perennial.continual.task import AnyTask
from perennial.continual.tasks.generation import Generation
from perennial.continual.tasks.image_classification import ImageClassification
from perennial.continual.tasks.opinion import Opinion
from perennial.continual.tasks.ranking import Ranking
from perennial.continual.tasks.replies import Replies
from perennial.continual.tasks.text_classification import TextClassification

__all__ = ["DEFAULT_TASK", "STREAMED", "TASKS", "learns_labels", "reads_words", "task_named"]

_KNOWN: tuple[AnyTask, ...] = (
    Generation(),
    ImageClassification(),
    Opinion(),
    Ranking(),
    Replies(),
    TextClassification(),
)
TASKS: dict[str, AnyTask] = {task.name: task for task in _KNOWN}
DEFAULT_TASK = "text_classification"
STREAMED = frozenset({Generation.name})
"""The tasks whose answers are worth sending piece by piece."""


def task_named(name: str = DEFAULT_TASK) -> AnyTask:
    """The task that a model names.

    Raises:
        ConfigurationError: there is none of that name.

    >>> task_named().score("fee", "fee")
    1.0
    """
    try:
        return TASKS[name]
    except KeyError:
        raise ConfigurationError(f"task {name!r} is unknown; use one of {', '.join(sorted(TASKS))}") from None


def learns_labels(name: str) -> bool:
    """Whether the task's rows have a label: its own, or those of a task that it is made of.

    >>> learns_labels("opinion"), learns_labels("ranking")
    (True, False)
    """
    return isinstance(TASKS.get(name), TextClassification)


def reads_words(name: str) -> bool:
    """Whether the words of the task's rows tell anything of their labels: not where they name images.

    >>> reads_words("opinion"), reads_words("image_classification")
    (True, False)
    """
    return learns_labels(name) and not isinstance(TASKS.get(name), ImageClassification)
