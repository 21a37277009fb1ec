"""How far a model's traffic was watched, as the ledger keeps it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from perennial.continual.drift.monitor import Level
from perennial.ops.ledger import Ledger
from perennial.ops.store.workspace import Workspace

__all__ = ["WatchState", "reference_folder"]

_STATE = "watch"


def reference_folder(workspace: Workspace, model: str, version: int) -> Path:
    """Where a version's reference lies."""
    return workspace.reports(model) / f"reference-{version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchState:
    """How far the traffic of one version was watched. `cursor` and `cursor_id` are the last row's time and id."""

    version: int
    cursor: str | None = None  # ISO form
    cursor_id: str = ""
    reference_ready: bool = False
    requests: int = 0
    windows: int = 0
    monitor: Mapping[str, Any] | None = None
    drift_since: str | None = None  # when the first window of the present episode began
    sequential: Mapping[str, Any] | None = None  # bound and state of each e-detector

    def changed(self, **facts: Any) -> Self:
        """Return the state with some facts replaced."""
        return replace(self, **facts)

    @classmethod
    def read(cls, ledger: Ledger, model: str) -> Self | None:
        """Return the state noted last, if any."""
        told = ledger.get_state(model, _STATE)
        return None if not told else cls(**told)

    def save(self, ledger: Ledger, model: str) -> None:
        """Note the state."""
        ledger.put_state(model, _STATE, asdict(self))

    @property
    def level(self) -> Level:
        """How worried the monitor is."""
        return Level.OK if not self.monitor else Level(self.monitor["level"])

    @property
    def since(self) -> datetime | None:
        """When the first drifted window of the present episode began."""
        return None if self.drift_since is None else datetime.fromisoformat(self.drift_since)

    @property
    def in_alert(self) -> bool:
        """Whether the version's traffic stands in an alert."""
        return self.level in {Level.ALERT, Level.COOLDOWN} and self.since is not None

    @property
    def episode(self) -> int:
        """The number of the newest drift episode, counted over all versions."""
        return int((self.monitor or {}).get("episode", 0))
