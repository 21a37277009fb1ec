"""The accountants beside published figures, and beside each other."""

import math
import warnings

import numpy as np
import pytest

from perennial.continual.learning.private_gradients import STEPS
from perennial.continual.privacy.noise import Privacy, epsilon_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from opacus.accountants import PRVAccountant, RDPAccountant
    from opacus.accountants.analysis.rdp import compute_rdp

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("multiplier", "epochs", "epsilon"),
    [(1.12, 60, 2.92), (0.6, 30, 9.74), (1.2, 10, 1.20)],
)
def test_opacus_accounts_as_published_for_sampled_batches(multiplier: float, epochs: int, epsilon: float) -> None:
    """The table of TensorFlow Privacy's tutorials: MNIST's 60,000 rows, batches of 256, delta 1e-5.

    It is by the conversion of Mironov 2017; that of Opacus is newer, and tells less.
    """
    rate, steps = 256 / 60_000, epochs * 60_000 // 256
    orders = np.array(RDPAccountant.DEFAULT_ALPHAS)
    spent = compute_rdp(q=rate, noise_multiplier=multiplier, steps=steps, orders=orders)
    assert np.min(spent + math.log(1e5) / (orders - 1)) == pytest.approx(epsilon, abs=0.02)
    accountant = RDPAccountant()
    accountant.history = [(multiplier, rate, steps)]
    assert 0.7 * epsilon < accountant.get_epsilon(delta=1e-5) < epsilon


@pytest.mark.parametrize("epsilon", [8.0, 1.0])
def test_our_noise_for_all_steps_is_what_opacus_says_of_it(epsilon: float) -> None:
    """Each step sees every row. Its accountant bounds the epsilon from above, by a hundredth at most."""
    multiplier = Privacy(epsilon=epsilon, delta=1e-5).multiplier * STEPS**0.5
    accountant = PRVAccountant()
    accountant.history = [(multiplier, 1.0, STEPS)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert accountant.get_epsilon(delta=1e-5) == pytest.approx(epsilon, abs=0.02)
    assert epsilon_of(STEPS**0.5 / multiplier, 1e-5) == pytest.approx(epsilon)
