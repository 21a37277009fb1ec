"""Which labels a version has good reason to doubt, by what its own head says of the embeddings that it answered."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perennial.continual.arrays import softmax
from perennial.continual.labelling.noise import Doubt, doubt_labels

__all__ = ["doubts_of"]


def doubts_of(
    bundle: Path, embeddings: NDArray[np.float32], given: Sequence[str], *, texts: Sequence[str] | None = None
) -> tuple[Doubt, ...]:
    """The labels that the version in a bundle doubts, the worst first; none where its head takes no such rows."""
    from perennial.continual.learning.card import is_finished, read_card
    from perennial.continual.learning.trained import KERNEL_HEADS, read_head

    if not is_finished(bundle) or read_card(bundle).head not in KERNEL_HEADS:
        return ()
    head = read_head(bundle)
    if embeddings.shape[1] != head.omega.shape[0] or (head.lexical is not None and texts is None):
        return ()
    return doubt_labels(softmax(head.logits(embeddings, texts)), given, head.labels)
