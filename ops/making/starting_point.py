"""What a training starts from: an encoder, the sums before it, and the classes that are described in words."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import folder_written_whole
from perennial.continual.learning.card import CLASSIFIER, ENCODER_INSIDE, FOREIGN, is_finished, read_card
from perennial.continual.learning.learners import learner_named
from perennial.ops.ledger import Ledger, VersionRow
from perennial.ops.making.encoder_for import named_encoder
from perennial.ops.store.tainted import tainted_encoders
from perennial.ops.store.workspace import Workspace

__all__ = ["StartingPoint", "keep_encoder", "learner_params"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartingPoint:
    """Where a challenger begins. `afresh`: no weight of the champion is used, and every stored row is learnt again."""

    encoder: str
    previous: Path | None
    afresh: bool

    @classmethod
    def of(cls, ledger: Ledger, workspace: Workspace, model: str, champion: VersionRow | None) -> "StartingPoint":
        """The champion's own encoder where it was tuned, so that its sums are carried on; else that of the settings.

        Where those leave the choice, it is the champion's, and `auto` where there is none: the rows decide then.

        A champion whose encoder was tuned on rows erased since is left behind whole.
        """
        base = named_encoder(workspace, model, champion)
        if champion is None or champion.encoder_fingerprint in tainted_encoders(ledger, model):
            return cls(encoder=base, previous=None, afresh=True)
        bundle = workspace.bundle(model, champion.version)
        tuned = bundle / ENCODER_INSIDE
        if tuned.is_dir() and workspace.model(model).privacy.epsilon is not None:  # it has learnt rows without noise
            return cls(encoder=base, previous=None, afresh=True)
        encoder = str(tuned) if (tuned / "config.json").is_file() else base
        return cls(encoder=encoder, previous=bundle, afresh=False)


def learner_params(
    ledger: Ledger, workspace: Workspace, model: str, champion: VersionRow | None = None
) -> dict[str, Any]:
    """The settings' `params` with the classes that the ledger describes; a sentence in the ledger wins.

    With fine-tuning the sentences are for the kernel head that is rebuilt afterwards. A champion that was taken over
    from elsewhere has no sums to carry on: its classes are described by their names, so that none is forgotten before
    it has labelled rows.
    """
    learning = workspace.model(model).learning
    if champion is None:
        learning = learning.of_first_version()
    described = {row.label: row.text for row in ledger.descriptions(model)}
    if champion is not None and _is_adopted(workspace.bundle(model, champion.version)):
        described = {label: label for label in champion.labels} | described
    return learner_named(learning.learner).params(learning.params, described)


def _is_adopted(bundle: Path) -> bool:
    return is_finished(bundle) and read_card(bundle).head in {CLASSIFIER, FOREIGN}


def keep_encoder(trained: Path, source: str) -> None:
    """Copy a tuned encoder that a head was trained on into the trained folder, so that its bundle stands alone.

    Repeating it is harmless; the card names the copy last.
    """
    card = read_card(trained)
    if Path(source).name != ENCODER_INSIDE or card.encoder != source:
        return
    with folder_written_whole(trained / ENCODER_INSIDE) as staging:
        shutil.copytree(source, staging, copy_function=shutil.copyfile, dirs_exist_ok=True)
    replace(card, encoder=ENCODER_INSIDE).write(trained)
