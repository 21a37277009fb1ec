"""The card of a trained model, `model.json`: what it is, what it was made of, and that it is finished.

Nothing else reads or writes the file. It lies in the folder that a learner leaves and in the bundle made of it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import DataError
from perennial.continual.preparation import fold_width
from perennial.continual.tasks import DEFAULT_TASK

__all__ = [
    "CLASSIFIER",
    "CLEANING",
    "COMPRESSED",
    "ENCODER_INSIDE",
    "FOREIGN",
    "FOREIGN_INSIDE",
    "FORMAT",
    "MODEL_FILE",
    "PRIVACY",
    "ModelCard",
    "drop_card",
    "is_finished",
    "noise_of",
    "read_card",
]

FORMAT = "perennial-trained-1"
MODEL_FILE = "model.json"
CLASSIFIER = "classifier"  # the head of a card whose encoder folder holds a classifier whole
FOREIGN = "onnx"  # the head of a card whose folder `FOREIGN_INSIDE` holds a classifier as somebody's ONNX file
FOREIGN_INSIDE = "classifier"
CLEANING = 2  # how texts are read: 1 as they are cleaned, 2 also with `fold_width`
COMPRESSED = "compressed"  # among the settings of a card: it was made smaller, and has no sums to go on from
PRIVACY = "privacy"  # among the settings of a card: what its version has told of rows, and how
ENCODER_INSIDE = "encoder"  # what the card calls an encoder that lies in a folder of this name beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What `model.json` says; its presence is the mark of a finished model.

    `unknown` holds the fields of other releases: they are written back as they were read.

    >>> card = ModelCard(learner="kernel_lda", encoder="packaged:minilm", encoder_fingerprint="sha256:0",
    ...                  labels=("a",), head="kernel_lda", temperature=1.0, max_length=128)
    >>> card.format
    'perennial-trained-1'
    """

    learner: str
    encoder: str = ""  # a name, a folder, or "encoder" for the folder inside; empty where there is none
    encoder_fingerprint: str = ""
    labels: tuple[str, ...] = ()  # in logit order
    head: str = (
        ""  # "kernel_lda", "ridge", "linear", "fused", or one that was fine-tuned elsewhere: "classifier", "onnx"
    )
    temperature: float = 1.0
    max_length: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    parent_version: int | None = None
    data: dict[str, int] = field(default_factory=dict)  # rows, replay_rows, classes
    settings: dict[str, Any] = field(default_factory=dict)  # what the learner chose or was told
    task: str = DEFAULT_TASK  # which cards of earlier releases do not name
    cleaning: int = CLEANING  # by which its texts were read when it learnt; cards of earlier releases do not say 1
    format: str = FORMAT
    unknown: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (kinds, allowed) in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise DataError(f"{name} is {str(value)[:60]!r}; it must be {allowed}")
        if wrong := [label for label in self.labels if not isinstance(label, str)]:
            raise DataError(f"labels hold {str(wrong)[:60]}; each must be a text")

    def encoder_source(self, folder: Path) -> str:
        """Where the encoder is to be had: the folder inside `folder`, the card's own, or the name as it is."""
        return str(folder / ENCODER_INSIDE) if self.encoder == ENCODER_INSIDE else self.encoder

    @property
    def folds_width(self) -> bool:
        """Whether its texts are read with `fold_width`."""
        return self.cleaning >= CLEANING

    def as_read(self, texts: Sequence[str]) -> list[str]:
        """Texts as the model reads them, so that an old version goes on answering as it did.

        >>> ModelCard(learner="ridge").as_read(["ＡＰＰ"]), ModelCard(learner="ridge", cleaning=1).as_read(["ＡＰＰ"])
        (['APP'], ['ＡＰＰ'])
        """
        return [fold_width(text) for text in texts] if self.folds_width else list(texts)

    def write(self, folder: Path) -> None:
        """Write `model.json`, whole; call it last."""
        fields = asdict(self)
        unknown = fields.pop("unknown")
        write_atomically(folder / MODEL_FILE, json.dumps(fields | unknown, indent=2, ensure_ascii=False) + "\n")


_OF_TEXT = ("encoder", "encoder_fingerprint", "labels", "head", "temperature", "max_length")  # no text goes without
_TEXT, _NUMBER, _WHOLE, _OBJECT = (str,), (float, int), (int,), (dict,)
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "learner": (_TEXT, "a text"),
    "task": (_TEXT, "a text"),
    "encoder": (_TEXT, "a text"),
    "encoder_fingerprint": (_TEXT, "a text"),
    "labels": ((tuple,), "a list of texts"),
    "head": (_TEXT, "a text"),
    "temperature": (_NUMBER, "a number"),
    "max_length": (_WHOLE, "a whole number"),
    "metrics": (_OBJECT, "an object"),
    "parent_version": ((int, type(None)), "a whole number or null"),
    "data": (_OBJECT, "an object"),
    "settings": (_OBJECT, "an object"),
    "cleaning": (_WHOLE, "a whole number"),
}


def is_finished(folder: Path) -> bool:
    """Whether the folder has a card, which a training writes last."""
    return (folder / MODEL_FILE).is_file()


def noise_of(folder: Path) -> Mapping[str, Any] | None:
    """What a finished version has told of rows; None where it was learnt without noise, or is not finished."""
    return read_card(folder).settings.get(PRIVACY) if is_finished(folder) else None


def drop_card(folder: Path) -> None:
    """Take the mark of a finished training away, before the folder's other files change."""
    (folder / MODEL_FILE).unlink(missing_ok=True)


def read_card(folder: Path) -> ModelCard:
    """The card of a trained model's folder or of a bundle.

    Raises:
        DataError: there is no `model.json` (the training did not finish), or it is damaged or of another format.
    """
    path = folder / MODEL_FILE
    try:
        read = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{folder} has no {MODEL_FILE}: its training did not finish; run the job again") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not JSON ({error}); run the job again") from error
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        seen = read.get("format") if isinstance(read, dict) else type(read).__name__
        raise DataError(f"{path} has format {seen!r}; this version reads {FORMAT!r}; train again")
    fields = {name for name in ModelCard.__dataclass_fields__ if name != "unknown"}
    known = {"cleaning": 1} | {name: value for name, value in read.items() if name in fields}
    if isinstance(known.get("labels"), list):
        known["labels"] = tuple(known["labels"])
    missing = (
        [name for name in _OF_TEXT if name not in known] if known.get("task", DEFAULT_TASK) == DEFAULT_TASK else []
    )
    if missing:
        raise DataError(f"{path} is damaged (it lacks {', '.join(missing)}); run the job again")
    try:
        return ModelCard(**known, unknown={name: value for name, value in read.items() if name not in fields})
    except (DataError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); run the job again") from error
