"""How new a request is: by its nearest known traffic, or by the bulk of the requests where none is known."""

import numpy as np
import pytest

from perennial.continual.labelling import novelty

AXES = np.eye(4, dtype=np.float32)


def test_a_request_is_as_new_as_its_nearest_five_are_far() -> None:
    reference = np.concatenate([np.repeat(AXES[:1], 5, axis=0), AXES[1:2]])
    assert novelty(AXES[:3], reference).tolist() == pytest.approx([0.0, 0.8, 1.0])
    assert novelty(AXES[:2], AXES[:2]).tolist() == pytest.approx([0.5, 0.5]), "there are only two"


@pytest.mark.parametrize("reference", [None, np.zeros((0, 4), np.float32), np.ones((3, 2), np.float32)])
def test_without_a_reference_that_fits_the_bulk_of_the_requests_stands_for_it(reference: np.ndarray | None) -> None:
    rows = np.concatenate([np.repeat(AXES[:1], 9, axis=0), AXES[1:2]])
    found = novelty(rows, reference)
    assert found[:9].max() < 0.01
    assert found[9] > 0.85
    assert found.dtype == np.float64


def test_requests_without_a_centre_are_all_equally_new() -> None:
    assert novelty(np.concatenate([AXES[:1], -AXES[:1]])).tolist() == [1.0, 1.0]
