"""Which labels a version has good reason to doubt, by what its own head says of the embeddings that it answered."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perennial.continual.arrays import softmax
from perennial.continual.labelling.noise import Doubt, doubt_labels

__all__ = ["doubts_of"]


def doubts_of(bundle: Path, embeddings: NDArray[np.float32], given: Sequence[str]) -> tuple[Doubt, ...]:
    """The labels that the version in a bundle doubts, the worst first; none where its head takes no such embeddings."""
    from perennial.continual.learning.card import is_finished, read_card
    from perennial.continual.learning.trained import read_head

    if not is_finished(bundle) or read_card(bundle).head != "kernel_lda":
        return ()
    head = read_head(bundle)
    if embeddings.shape[1] != head.omega.shape[0]:
        return ()
    return doubt_labels(softmax(head.logits(embeddings)), given, head.labels)
