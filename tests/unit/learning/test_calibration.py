"""How sure a head may be by few rows, or by rows that are all right; many rows decide as they always did."""

import numpy as np
import pytest

from perennial.continual.arrays import softmax
from perennial.continual.learning.calibration import fit_link, fit_temperature, log_loss


def margins(rows: int, classes: int, margin: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are all right, each by the same margin."""
    truth = np.arange(rows) % classes
    logits = np.zeros((rows, classes))
    logits[np.arange(rows), truth] = margin
    return logits, truth


@pytest.mark.parametrize("rows", [1, 5, 40, 1000])
@pytest.mark.parametrize("classes", [2, 3, 60])
@pytest.mark.parametrize("margin", [0.02, 3.0, 30.0])
def test_rows_that_are_all_right_make_a_head_as_sure_as_one_more_that_is_wrong_allows(
    rows: int, classes: int, margin: float
) -> None:
    logits, truth = margins(rows, classes, margin)
    sure = softmax(logits / fit_temperature(logits, truth)).max(axis=1)
    assert 1.0 - sure.mean() == pytest.approx(1.0 / (rows + 1), rel=0.02)


def test_the_link_of_rows_that_are_all_right_is_not_certain_either() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 6
    scores = -1.0 + 0.05 * rng.standard_normal((120, 6))
    scores[np.arange(120), truth] = 1.0 + 0.05 * rng.standard_normal(120)
    scores -= scores.mean(axis=1, keepdims=True)
    temperature = fit_temperature(scores, truth)
    link = fit_link(scores / temperature, truth, temperature)
    logits = scores / temperature if link is None else link(scores / temperature)
    assert 0.98 < softmax(np.asarray(logits)).max(axis=1).mean() < 0.999


@pytest.mark.parametrize("rows", [200, 1500])
def test_among_rows_with_errors_one_more_hardly_counts(rows: int) -> None:
    """New rows of the same kind lose about what they lose by the temperature of the rows alone."""
    rng = np.random.default_rng(1)
    chances = rng.dirichlet(np.full(8, 0.15), size=rows + 4000)
    truth = np.array([rng.choice(8, p=each) for each in chances])
    logits = 4.0 * np.log(chances + 1e-3)  # four times too sure
    fitted = fit_temperature(logits[:rows], truth[:rows])
    alone = min(np.geomspace(0.5, 32.0, 300), key=lambda each: log_loss(logits[:rows], truth[:rows], each))
    later, wanted = logits[rows:], truth[rows:]
    assert log_loss(later, wanted, fitted) < log_loss(later, wanted, alone) + 2.0 / rows


def test_without_rows_nothing_is_known() -> None:
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=np.intp)) == 1.0
