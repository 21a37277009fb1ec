"""What a version is made with beside its rows: the catalogue of a ranking, or the library of replies as it is now."""

from pathlib import Path

from perennial.continual.learning.replies import write_library
from perennial.continual.tasks.replies import Replies
from perennial.ops.store.reply_store import ReplyStore
from perennial.ops.store.workspace import Workspace

__all__ = ["kept_items"]


def kept_items(workspace: Workspace, model: str) -> Path | None:
    """The file for a training; None where there is nothing of the kind.

    Raises:
        DependencyUnreachable: the library of replies cannot be read.
    """
    path = workspace.items(model)
    library = workspace.replies(model)
    if workspace.settings.task_of(model) == Replies.name and library.is_file():
        with ReplyStore(library) as store:
            write_library(path, store.library())
    return path if path.is_file() else None
