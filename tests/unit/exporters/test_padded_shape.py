"""Every batch fits the shape it is padded to, within the limits, and few shapes cover them all."""

import pytest

from perennial.exporters.aotinductor.replay import GRAPHS
from perennial.exporters.aotinductor.shapes import padded_shape


@pytest.mark.parametrize(("max_rows", "max_tokens"), [(128, 512), (100, 500), (1, 1), (64, 128)])
def test_shape_holds_every_batch_within_the_limits(max_rows: int, max_tokens: int) -> None:
    for rows in range(1, max_rows + 1):
        for tokens in range(1, max_tokens + 1):
            high, wide = padded_shape(rows, tokens, max_rows=max_rows, max_tokens=max_tokens)
            assert rows <= high <= min(max_rows, 2 * rows)
            assert tokens <= wide <= min(max_tokens, tokens + 31)


def test_texts_of_ordinary_length_have_a_recording_for_every_shape() -> None:
    shapes = {
        padded_shape(rows, tokens, max_rows=128, max_tokens=128) for rows in range(1, 129) for tokens in range(1, 129)
    }
    assert len(shapes) <= GRAPHS
