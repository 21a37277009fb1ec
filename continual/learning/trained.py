"""The heads in the folder that a learner leaves and an exporter reads; docs/architecture.md fixes its format."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import DataError
from perennial.continual.learning.calibration import Link
from perennial.continual.learning.card import read_card
from perennial.continual.learning.head import HeadWeights
from perennial.continual.learning.lexical import KNOWN, LINK, OF_WORDS, LexicalFeatures, WordScores

__all__ = [
    "HEAD_FILE",
    "KERNEL_HEADS",
    "OTHERS_FILE",
    "PROOF_FILE",
    "STATISTICS_FILE",
    "proof_keys",
    "read_head",
    "read_proved_head",
    "write_head",
    "write_proof",
]

KERNEL_HEADS = frozenset({"kernel_lda", "ridge"})
HEAD_FILE, STATISTICS_FILE = "head.safetensors", "statistics.safetensors"
OTHERS_FILE = "others.safetensors"  # the sums of other sites, where the head counts them beside its own
PROOF_FILE = "proof.safetensors"  # the head as it was proved, where the one that answers has learnt the proof's rows
_KEYS = "keys"  # of the rows that the head has learnt after its proof


def write_head(folder: Path, head: HeadWeights) -> None:
    """Writes the head of a closed form as `head.safetensors`, whole."""
    from safetensors.numpy import save_file

    tensors = {"omega": head.omega, "phase": head.phase, "weight": head.weight, "bias": head.bias}
    if head.lexical is not None and head.words is not None:
        tensors |= WordScores.tensors(head.lexical, head.words, head.link)
    with written_whole(folder / HEAD_FILE) as temporary:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary)


def write_proof(folder: Path, proved: HeadWeights, keys: Sequence[int]) -> None:
    """Writes `proof.safetensors`: the head without the rows of these keys, on which it was judged."""
    from safetensors.numpy import save_file

    tensors: dict[str, NDArray[Any]] = {"weight": proved.weight, "bias": proved.bias}
    if proved.lexical is not None:
        tensors["lexical"] = proved.lexical
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    with written_whole(folder / PROOF_FILE) as temporary:
        save_file({**tensors, _KEYS: np.array(keys, dtype=np.uint64)}, temporary)


def read_proved_head(folder: Path) -> HeadWeights:
    """The head in closed form as it was proved: the one that answers where none of the proof's rows was learnt after.

    Raises:
        DataError: the folder's head is of another kind, or cannot be read.
    """
    head = read_head(folder)
    if not (folder / PROOF_FILE).is_file():
        return head
    tensors = _tensors(folder / PROOF_FILE)
    return replace(head, weight=tensors["weight"], bias=tensors["bias"], lexical=tensors.get("lexical"))


def proof_keys(folder: Path) -> frozenset[int]:
    """The keys of the rows that a folder's head has learnt after its proof.

    Raises:
        DataError: the file cannot be read.
    """
    if not (folder / PROOF_FILE).is_file():
        return frozenset()
    return frozenset(_tensors(folder / PROOF_FILE)[_KEYS].tolist())


def read_head(folder: Path) -> HeadWeights:
    """The head in closed form of a trained folder or a bundle.

    Raises:
        DataError: the folder's head is of another kind, or cannot be read.
    """
    card = read_card(folder)
    if card.head not in KERNEL_HEADS:
        raise DataError(f"{folder} has a {card.head!r} head; one of {sorted(KERNEL_HEADS)} was asked for")
    tensors = _tensors(folder / HEAD_FILE)
    tensors.pop(KNOWN, None)
    shape, link = tensors.pop(OF_WORDS, np.zeros(1)), tensors.pop(LINK, None)
    lexical = tensors.get("lexical")
    return HeadWeights(
        labels=card.labels,
        temperature=card.temperature,
        words=None if lexical is None else LexicalFeatures.of_tensor(lexical.shape[1], shape),
        link=None if link is None else Link.of_tensor(link),
        **tensors,
    )


def _tensors(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors: dict[str, NDArray[Any]] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read ({error}); run the job again") from error
    return tensors
