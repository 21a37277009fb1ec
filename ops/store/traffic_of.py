"""A model's traffic log, opened as its task has it."""

from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog

__all__ = ["traffic_of"]


def traffic_of(workspace: Workspace, model: str) -> TrafficLog:
    """The log of a model, with the columns of the task that the settings name; of a model that they do not name, with
    those that its files have."""
    settings = workspace.settings
    named = model in settings.models or model in settings.refused
    return TrafficLog(workspace.traffic(model), task=settings.task_of(model) if named else None)
