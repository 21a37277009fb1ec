"""The heads in the folder that a learner leaves and an exporter reads; docs/architecture.md fixes its format."""

from pathlib import Path

import numpy as np

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import DataError
from perennial.continual.learning.card import read_card
from perennial.continual.learning.head import HeadWeights

__all__ = ["HEAD_FILE", "STATISTICS_FILE", "read_head", "write_head"]

HEAD_FILE, STATISTICS_FILE = "head.safetensors", "statistics.safetensors"


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
