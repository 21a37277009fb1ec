"""The matcher of a version: its library embedded by the version's encoder, and weights learnt of approved questions."""

import logging

import numpy as np

from perennial.continual.learning.context import Context
from perennial.continual.learning.encoder import Embedder
from perennial.continual.learning.replies.fitting import fit_matcher
from perennial.continual.learning.replies.library import read_library
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.texts import Texts
from perennial.continual.preparation import fold_width

__all__ = ["train_matcher"]

logger = logging.getLogger(__name__)


def train_matcher(spec: JobSpec, context: Context, embedder: Embedder | None = None) -> None:
    """Leave the matcher in the spec's `out`, where the job has a library of replies.

    Raises:
        DataError: the library cannot be read.
        Cancelled: the context was told to stop.
    """
    if spec.items is None:
        return
    library = read_library(spec.items)
    read = [fold_width(text) for text in library.texts]  # as the version reads what comes to the library later
    vectors = Texts(spec, context, embedder)(read).astype(np.float32)
    context.report("match", 0, 1)
    matcher = fit_matcher(library, vectors, np.random.default_rng(spec.seed))
    context.report("match", 1, 1)
    context.checkpoint()
    matcher.write(spec.out)
    logger.info("training.matcher_trained", extra={"replies": len(library.replies), **matcher.metrics})
