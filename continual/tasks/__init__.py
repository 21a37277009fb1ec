"""The tasks by name. Each is a folder that knows its own inputs, answers and targets; nothing else does."""

from perennial.continual.errors import ConfigurationError
from perennial.continual.task import AnyTask
from perennial.continual.tasks.opinion import Opinion
from perennial.continual.tasks.ranking import Ranking
from perennial.continual.tasks.replies import Replies
from perennial.continual.tasks.text_classification import TextClassification

__all__ = ["DEFAULT_TASK", "TASKS", "learns_labels", "task_named"]

_KNOWN: tuple[AnyTask, ...] = (Opinion(), Ranking(), Replies(), TextClassification())
TASKS: dict[str, AnyTask] = {task.name: task for task in _KNOWN}
DEFAULT_TASK = "text_classification"


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
    """Whether the task's rows are texts with a label: its own, or those of a task that it is made of.

    >>> learns_labels("opinion"), learns_labels("ranking")
    (True, False)
    """
    return isinstance(TASKS.get(name), TextClassification)
