"""The heads in the folder that a learner leaves and an exporter reads; docs/architecture.md fixes its format."""

from pathlib import Path

import numpy as np

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import DataError
from perennial.continual.learning.calibration import Link
from perennial.continual.learning.card import read_card
from perennial.continual.learning.head import HeadWeights
from perennial.continual.learning.lexical import KNOWN, LINK, OF_WORDS, WordScores

__all__ = ["HEAD_FILE", "KERNEL_HEADS", "STATISTICS_FILE", "read_head", "write_head"]

KERNEL_HEADS = frozenset({"kernel_lda", "ridge"})
HEAD_FILE, STATISTICS_FILE = "head.safetensors", "statistics.safetensors"


def write_head(folder: Path, head: HeadWeights) -> None:
    """Writes the head of a closed form as `head.safetensors`, whole."""
    from safetensors.numpy import save_file

    tensors = {"omega": head.omega, "phase": head.phase, "weight": head.weight, "bias": head.bias}
    if head.lexical is not None:
        tensors |= WordScores.tensors(head.lexical, head.words, head.link)
    with written_whole(folder / HEAD_FILE) as temporary:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary)


def read_head(folder: Path) -> HeadWeights:
    """The head in closed form of a trained folder or a bundle.

    Raises:
        DataError: the folder's head is of another kind, or cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    card = read_card(folder)
    if card.head not in KERNEL_HEADS:
        raise DataError(f"{folder} has a {card.head!r} head; one of {sorted(KERNEL_HEADS)} was asked for")
    try:
        tensors = load_file(folder / HEAD_FILE)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder / HEAD_FILE} cannot be read ({error}); run the job again") from error
    tensors.pop(KNOWN, None)
    of_words, link = int(tensors.pop(OF_WORDS, np.zeros(1))[0]), tensors.pop(LINK, None)
    return HeadWeights(
        labels=card.labels,
        temperature=card.temperature,
        lexical_of_words=of_words,
        link=None if link is None else Link.of_tensor(link),
        **tensors,
    )
