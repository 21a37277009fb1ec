"""Products that are added where the sums lie."""

import numpy as np
import pytest

from perennial.continual.learning.lapack import add_products
from perennial.continual.learning.sums import mirror_lower


@pytest.mark.parametrize("rows", [0, 1, 7, 300])
def test_products_of_rows_are_added_and_taken_back_in_place(rows: int) -> None:
    rng = np.random.default_rng(0)
    known, more = rng.standard_normal((50, 130)), rng.standard_normal((rows, 130))
    sums = known.T @ known
    before, place = sums.copy(), sums.ctypes.data

    add_products(more, sums)
    mirror_lower(sums)

    np.testing.assert_array_equal(sums, sums.T)
    np.testing.assert_allclose(sums, before + more.T @ more, rtol=0, atol=1e-11)
    assert sums.ctypes.data == place

    add_products(more, sums, -1.0)
    mirror_lower(sums)

    np.testing.assert_allclose(sums, before, rtol=0, atol=1e-11)


def test_a_part_of_a_larger_array_can_be_added_to_and_a_turned_one_is_refused() -> None:
    parts, rows = np.zeros((2, 3, 3)), np.arange(6.0).reshape(2, 3)

    add_products(rows, parts[1])
    mirror_lower(parts[1])

    assert not parts[0].any()
    np.testing.assert_allclose(parts[1], rows.T @ rows)
    with pytest.raises(ValueError, match="Fortran's order"):
        add_products(np.asfortranarray(rows), parts[0])
