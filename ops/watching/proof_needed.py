"""How many held-out rows a retraining needs before it can be proved."""

from typing import Protocol

from perennial.continual.tasks import task_named
from perennial.ops.ledger import VersionRow
from perennial.ops.ledger.ports import State, Vocabulary
from perennial.ops.store.federation import Federation
from perennial.ops.store.tainted import tainted_encoders
from perennial.ops.store.workspace import Workspace

__all__ = ["proof_needed"]


class ProofLedger(State, Vocabulary, Protocol):
    """What the gate's demand depends on."""


def proof_needed(ledger: ProofLedger, workspace: Workspace, model: str, champion: VersionRow) -> int:
    """Held-out rows without which the gate is sure to refuse; 0 where it may ask for none, or counts other rows."""
    settings = workspace.model(model)
    described = {row.label for row in ledger.descriptions(model)}
    asks_none = (
        not task_named(settings.task).stays_right
        or settings.privacy.epsilon is not None
        or champion.encoder_fingerprint in tainted_encoders(ledger, model)
        or not described <= set(champion.labels)
        or Federation(workspace, model).others is not None
    )
    return 0 if asks_none else settings.cycle.min_fresh_rows
