"""How far a request lies from the traffic that is known, by its embedding."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["novelty"]

_NEAREST = 5


def novelty(embeddings: NDArray[np.float32], reference: NDArray[np.float32] | None = None) -> NDArray[np.float64]:
    """Return one minus the mean cosine of each row (rows, d) to the five nearest of the reference; higher is newer.

    Without a reference of the same width, the centre of the rows themselves stands for it. All rows have length 1.

    >>> novelty(np.eye(2, dtype=np.float32), np.array([[1.0, 0.0]], dtype=np.float32)).tolist()
    [0.0, 1.0]
    """
    if reference is None or not len(reference) or reference.shape[1] != embeddings.shape[1]:
        centre = embeddings.mean(axis=0)
        near = embeddings @ centre / max(float(np.linalg.norm(centre)), 1e-9)
    else:
        most = min(_NEAREST, len(reference))
        near = np.sort(embeddings @ reference.T, axis=1)[:, -most:].mean(axis=1)
    distance: NDArray[np.float64] = (1.0 - near).astype(np.float64)
    return distance
