"""What a person is shown of logged requests."""

from collections.abc import Sequence
from dataclasses import dataclass

from perennial.continual.task import PREDICTION, AnyTask
from perennial.ops.traffic.log import TrafficLog

__all__ = ["ShownRequest", "shown_requests"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRequest:
    """One logged request: what was asked and answered, how sure the version was where its task tells, and which."""

    text: str
    answered: str
    confidence: float | None
    version: int


def shown_requests(traffic: TrafficLog, ids: Sequence[str], task: AnyTask) -> dict[str, ShownRequest]:
    """Those of the requests that are in the log, by their ids, the oldest first."""
    table = traffic.lookup(ids, columns=["prediction_id", "version", *task.log_columns])
    own = {name: table[name].to_pylist() for name in task.log_columns}
    return {
        name: ShownRequest(text=text, answered=answered, confidence=confidence, version=version)
        for name, text, answered, confidence, version in zip(
            table["prediction_id"].to_pylist(),
            task.watched(own)["text"],
            own[PREDICTION],
            own.get("confidence", [None] * table.num_rows),
            table["version"].to_pylist(),
            strict=True,
        )
    }
