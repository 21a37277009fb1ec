"""The folder that a learner leaves and an exporter reads; docs/architecture.md fixes its format."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.atomic_file import write_atomically, written_whole
from perennial.continual.errors import DataError
from perennial.continual.learning.head import HeadWeights

__all__ = ["FORMAT", "HEAD_FILE", "MODEL_FILE", "STATISTICS_FILE", "ModelCard", "read_card", "read_head", "write_head"]

FORMAT = "perennial-trained-1"
MODEL_FILE, HEAD_FILE, STATISTICS_FILE = "model.json", "head.safetensors", "statistics.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What `model.json` says; its presence is the mark of a finished model.

    >>> card = ModelCard(learner="kernel_lda", encoder="packaged:minilm", encoder_fingerprint="sha256:0",
    ...                  labels=("a",), head="kernel_lda", temperature=1.0, max_length=128)
    >>> card.format
    'perennial-trained-1'
    """

    learner: str
    encoder: str  # a name, a folder, or "encoder" for the folder inside
    encoder_fingerprint: str
    labels: tuple[str, ...]  # in logit order
    head: str  # "kernel_lda" or "linear"
    temperature: float
    max_length: int
    metrics: dict[str, float] = field(default_factory=dict)
    parent_version: int | None = None
    data: dict[str, int] = field(default_factory=dict)  # rows, replay_rows, classes
    settings: dict[str, Any] = field(default_factory=dict)  # what the learner chose or was told
    format: str = FORMAT

    def write(self, folder: Path) -> None:
        """Writes `model.json`, whole; call it last."""
        write_atomically(folder / MODEL_FILE, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def read_card(folder: Path) -> ModelCard:
    """The card of a trained model's folder or of a bundle.

    Raises:
        DataError: there is no `model.json` (the training did not finish), or it has another format.
    """
    path = folder / MODEL_FILE
    try:
        read = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{folder} has no {MODEL_FILE}: its training did not finish; run the job again") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); run the job again") from error
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        seen = read.get("format") if isinstance(read, dict) else type(read).__name__
        raise DataError(f"{path} has format {seen!r}; this version reads {FORMAT!r}; train again")
    known = ModelCard.__dataclass_fields__
    try:
        return ModelCard(
            **{name: value for name, value in read.items() if name in known} | {"labels": (*read["labels"],)}
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is incomplete ({error}); run the job again") from error


def write_head(folder: Path, head: HeadWeights) -> None:
    """Writes a kernel head as `head.safetensors`, whole."""
    from safetensors.numpy import save_file

    tensors = {"omega": head.omega, "phase": head.phase, "weight": head.weight, "bias": head.bias}
    with written_whole(folder / HEAD_FILE) as temporary:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary)


def read_head(folder: Path) -> HeadWeights:
    """The kernel head of a trained folder or a bundle.

    Raises:
        DataError: the folder's head is of another kind, or cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    card = read_card(folder)
    if card.head != "kernel_lda":
        raise DataError(f"{folder} has a {card.head!r} head; a kernel head was asked for")
    try:
        tensors = load_file(folder / HEAD_FILE)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder / HEAD_FILE} cannot be read ({error}); run the job again") from error
    return HeadWeights(labels=card.labels, temperature=card.temperature, **tensors)
