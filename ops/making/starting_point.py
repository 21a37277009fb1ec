"""What a training starts from: an encoder, the sums before it, and the classes that are described in words."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import write_atomically
from perennial.ops.ledger import Ledger, VersionRow
from perennial.ops.store.tainted import tainted_encoders
from perennial.ops.store.workspace import Workspace

__all__ = ["StartingPoint", "keep_encoder", "learner_params"]

_INSIDE = "encoder"  # a tuned encoder's folder in a trained folder or a bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class StartingPoint:
    """Where a challenger begins. `afresh`: no weight of the champion is used, and every stored row is learnt again."""

    encoder: str
    previous: Path | None
    afresh: bool

    @classmethod
    def of(cls, ledger: Ledger, workspace: Workspace, model: str, champion: VersionRow | None) -> "StartingPoint":
        """The champion's own encoder where it was tuned, so that its sums are carried on; else that of the settings.

        A champion whose encoder was tuned on rows erased since is left behind whole.
        """
        base = workspace.model(model).learning.encoder
        if champion is None or champion.encoder_fingerprint in tainted_encoders(ledger, model):
            return cls(encoder=base, previous=None, afresh=True)
        bundle = workspace.bundle(model, champion.version)
        tuned = bundle / _INSIDE
        encoder = str(tuned) if (tuned / "config.json").is_file() else base
        return cls(encoder=encoder, previous=bundle, afresh=False)


def learner_params(ledger: Ledger, workspace: Workspace, model: str) -> dict[str, Any]:
    """The settings' `params` with the classes that the ledger describes; a sentence in the ledger wins.

    With fine-tuning the sentences are for the kernel head that is rebuilt afterwards.
    """
    learning = workspace.model(model).learning
    params = dict(learning.params)
    told = {row.label: row.text for row in ledger.descriptions(model)}
    if learning.learner == "kernel_lda":
        return params | {"descriptions": {**params.get("descriptions", {}), **told}}
    if not told:
        return params
    head = dict(params.get("head_settings", {}))
    return params | {"head_settings": head | {"descriptions": {**head.get("descriptions", {}), **told}}}


def keep_encoder(trained: Path, source: str) -> None:
    """Copy a tuned encoder that a head was trained on into the trained folder, so that its bundle stands alone.

    Repeating it is harmless; `model.json` names the copy last.
    """
    card = trained / "model.json"
    told = json.loads(card.read_text(encoding="utf-8"))
    if Path(source).name != _INSIDE or told.get("encoder") != source:
        return
    staging = trained / f".{_INSIDE}.tmp"
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(source, staging, copy_function=shutil.copyfile)
    shutil.rmtree(trained / _INSIDE, ignore_errors=True)
    staging.rename(trained / _INSIDE)
    write_atomically(card, json.dumps(told | {"encoder": _INSIDE}, indent=2, ensure_ascii=False) + "\n")
