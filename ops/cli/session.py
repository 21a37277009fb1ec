"""One command's use of a workspace: opened by its settings, and closed whatever becomes of the command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perennial.ops.parts import Parts

__all__ = ["model_session", "session"]


@contextmanager
def session(config: Path | None, *, may_be_new: bool = False) -> "Iterator[Parts]":
    """The parts of the workspace that these settings describe; what is written meanwhile has the settings' umask.

    Raises:
        ConfigurationError: there is neither a settings file nor a ledger here, unless `may_be_new`.
        DependencyUnreachable: the ledger cannot be reached.
    """
    from perennial.ops.app.wiring import open_parts  # a command that only prints its help needs none of it

    parts = open_parts(config, may_be_new=may_be_new)
    try:
        yield parts
    finally:
        parts.close()


@contextmanager
def model_session(config: Path | None, model: str, *, may_be_broken: bool = False) -> "Iterator[tuple[Parts, str]]":
    """The parts of a workspace, and the name of the model that a command is about.

    With `may_be_broken` its section may be one that cannot be used: the command needs none of its settings.

    Raises:
        NotFound: the settings do not name the model.
        ConfigurationError: its section cannot be used, or see `session`.
        DependencyUnreachable: see `session`.
    """
    with session(config) as parts:
        if not (may_be_broken and model in parts.settings.refused):
            parts.workspace.model(model)
        yield parts, model
