"""By which way the feedback of each task comes in."""

from collections.abc import Mapping

from perennial.continual.errors import DataError
from perennial.continual.tasks import DEFAULT_TASK
from perennial.ops.ledger.ports import ExampleSink

__all__ = ["check_takes"]

_LABELS = "labels (POST /v1/feedback)"
_WAYS: Mapping[str, str] = {
    "generation": "accepted edits (POST /v1/edits)",
    "image_classification": _LABELS,
    "opinion": _LABELS,
    "ranking": "signals (POST /v1/signals)",
    "replies": _LABELS,
    "text_classification": _LABELS,
}


def check_takes(ledger: ExampleSink, model: str, task: str) -> None:
    """Return where the model takes the feedback of this task, so that such feedback is meant for it.

    Raises:
        DataError: it takes another kind.
    """
    own = next((row.settings.get("task", DEFAULT_TASK) for row in ledger.models() if row.name == model), task)
    if _WAYS[own] != _WAYS[task]:
        raise DataError(f"model {model} is of task {own!r}: it takes {_WAYS[own]}, not {_WAYS[task]}")
