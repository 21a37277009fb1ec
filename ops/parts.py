"""What commands and the service work with, as one record."""

from dataclasses import dataclass
from pathlib import Path

from perennial.ops.ledger import Ledger
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.reconciler import Reconciler
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.settings import Settings
from perennial.ops.store.workspace import Workspace

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What commands and the service work with."""

    settings: Settings
    workspace: Workspace
    ledger: Ledger
    repository: ModelRepository
    controls: tuple[TritonControl, ...]
    reconciler: Reconciler
    config: Path | None = None  # the settings file, which may be written later

    def close(self) -> None:
        """Close connections."""
        for control in self.controls:
            control.close()
        self.ledger.close()
