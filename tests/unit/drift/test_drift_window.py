"""Windows made of whatever a traffic log holds."""

import numpy as np
import pyarrow as pa
import pytest

from perennial.continual.drift.window import Window
from perennial.continual.errors import DataError

COLUMNS = {
    "text": ["card lost", "pin"],
    "prediction": ["a", "b"],
    "confidence": [0.9, 0.4],
    "margin": [0.8, 0.1],
    "entropy": [0.2, 1.1],
    "version": [3, 3],
}


@pytest.mark.parametrize(
    "embedding",
    [
        pa.nulls(2),
        pa.chunked_array([pa.nulls(2)]),
        pa.chunked_array([pa.nulls(1), pa.nulls(1)]),
        pa.nulls(2, pa.list_(pa.float16(), 3)),
        pa.array([[1.0, 2.0], None]),
        [None, None],
        [[1.0, 2.0], None],
        np.array([None, None], dtype=object),
        None,
    ],
)
def test_rows_without_embeddings_make_a_window_without_them(embedding: object) -> None:
    window = Window.from_columns(COLUMNS | {"embedding": embedding})
    assert window.embeddings is None
    assert len(window) == 2


@pytest.mark.parametrize(
    "embedding",
    [
        pa.array([[1.0, 2.0], [3.0, 4.0]]),
        pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        [[1.0, 2.0], [3.0, 4.0]],
        [np.array([1.0, 2.0]), np.array([3.0, 4.0])],
        np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float16),
        np.array([[1, 2], [3, 4]]),
    ],
)
def test_embeddings_come_in_any_array(embedding: object) -> None:
    window = Window.from_columns(COLUMNS | {"embedding": embedding})
    assert window.embeddings is not None
    assert window.embeddings.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert window.embeddings.dtype in (np.float16, np.float32)


@pytest.mark.parametrize("embedding", [[[1.0, 2.0], [3.0]], [["a", "b"], ["c", "d"]], [object(), object()]])
def test_what_is_no_embedding_is_refused(embedding: object) -> None:
    with pytest.raises(DataError):
        Window.from_columns(COLUMNS | {"embedding": embedding})
