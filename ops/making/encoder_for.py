"""The encoder of a model's next version: as the settings name it, as its champion has it, or as the rows want it."""

from collections.abc import Sequence

from perennial.continual.errors import ConfigurationError
from perennial.continual.images import is_image_encoder
from perennial.continual.learning.card import ENCODER_INSIDE, FOREIGN_INSIDE, is_finished, read_card
from perennial.continual.learning.encoder import resolve_encoder
from perennial.continual.learning.encoder_choice import FOR_IMAGES, EncoderChoice, check_encoder, choose_encoder
from perennial.continual.learning.names import AUTO_ENCODER
from perennial.continual.task import AnyRow, AnyTask
from perennial.continual.tasks import DEFAULT_TASK, reads_words
from perennial.ops.ledger import VersionRow
from perennial.ops.settings import LearningSettings
from perennial.ops.store.workspace import Workspace

__all__ = ["encoder_for", "named_encoder", "texts_of"]


def encoder_for(learning: LearningSettings, texts: Sequence[str], task: str = DEFAULT_TASK) -> EncoderChoice:
    """The encoder of a first version of a model of this task, and why.

    Raises:
        ConfigurationError: the settings name one that cannot read these rows, and do not insist on it.
    """
    words = reads_words(task)
    if learning.encoder == AUTO_ENCODER:
        return choose_encoder(texts) if words else FOR_IMAGES
    if not words:
        if not is_image_encoder(resolve_encoder(learning.encoder)):
            raise ConfigurationError(
                f"encoder {learning.encoder!r} reads texts, and the rows are images; set encoder = {AUTO_ENCODER!r}, "
                "or name the folder of an image encoder with its preprocessor_config.json"
            )
    elif not learning.insist_on_encoder:
        check_encoder(learning.encoder, texts)
    return EncoderChoice(encoder=learning.encoder, because="the settings name it")


def named_encoder(workspace: Workspace, model: str, champion: VersionRow | None) -> str:
    """The encoder before any tuning; `AUTO_ENCODER` where neither the settings nor the champion name one."""
    named = workspace.model(model).learning.encoder
    if named != AUTO_ENCODER or champion is None:
        return named
    bundle = workspace.bundle(model, champion.version)
    found = read_card(bundle).encoder if is_finished(bundle) else ""
    return AUTO_ENCODER if found in {"", ENCODER_INSIDE, FOREIGN_INSIDE} else found


def texts_of(task: AnyTask, rows: Sequence[AnyRow]) -> list[str]:
    """What was asked in these rows."""
    return [text for row in rows for text in task.texts(row.input)]
