"""Settings chosen by held-out rows: the default, unless they clearly like another better."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.learning.card import read_card
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.context import Context
from perennial.continual.learning.fast import train_fast
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.kernel_lda import Discriminant, KernelLda
from perennial.continual.learning.selection import SHRINKAGES, HeldOut, choose_shrinkage, default_shrinkage
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.trained import read_head
from tests.unit.learning.conftest import make_rows


def problem(rows: int, noise: float, seed: int) -> tuple[np.ndarray, list[str]]:
    """Unit vectors around four directions in eight dimensions."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((4, 8))
    truth = np.arange(rows) % 4
    X = centres[truth] + noise * rng.standard_normal((rows, 8))
    return X / np.linalg.norm(X, axis=1, keepdims=True), [f"c{place}" for place in truth]


def head_of(rows: int, noise: float, features: int = 150) -> KernelLda:
    head = KernelLda(FourierFeatures.make(dimension=8, features=features, gamma=0.5, seed=0))
    X, labels = problem(rows, noise, seed=1)
    head.add(ClassRows(X=X, labels=labels))
    return head


def held(rows: int, noise: float) -> HeldOut:
    X, labels = problem(rows, noise, seed=2)
    return HeldOut(X=X, labels=tuple(labels))


def errors(head: KernelLda, shrinkage: float, on: HeldOut) -> float:
    weights = head.solve(Discriminant(shrinkage=shrinkage))
    given = np.array(weights.labels)[weights.logits(on.X).argmax(axis=1)]
    return float((given != np.array(on.labels)).mean())


@pytest.mark.slow
def test_more_rows_than_features_can_bear_ask_for_more_shrinkage() -> None:
    """160 noisy rows in 150 features: next to no shrinkage fits the noise."""
    head, on = head_of(160, noise=1.0), held(2000, noise=1.0)
    chosen = choose_shrinkage(head, on)
    assert chosen > default_shrinkage(160)
    assert errors(head, chosen, on) < errors(head, default_shrinkage(160), on)


def test_a_handful_of_held_out_rows_does_not_move_the_default() -> None:
    head = head_of(400, noise=0.3)
    assert choose_shrinkage(head, held(8, noise=0.3)) == default_shrinkage(400)
    assert choose_shrinkage(head, HeldOut(X=np.zeros((0, 8)), labels=())) == default_shrinkage(400)
    assert choose_shrinkage(head, HeldOut(X=np.ones((3, 8)), labels=("never", "heard", "of"))) == 1e-4


@pytest.mark.parametrize("rows", [50, 5000])
def test_defaults_are_among_what_is_tried(rows: int) -> None:
    assert default_shrinkage(rows) in SHRINKAGES


@pytest.mark.slow
def test_settings_and_logits_do_not_depend_on_the_order_of_the_classes(make_spec: Callable[..., Path]) -> None:
    """Three updates of one class each, in two orders, as the loop makes them: held-out rows gather."""
    solved = []
    for order in (["card", "loan", "trip"], ["trip", "card", "loan"]):
        previous, seen = None, ""
        for label in order:
            seen = f"{seen} {label}".strip()
            path = make_spec(
                f"{'-'.join(order)}-{label}",
                previous=previous,
                examples=make_rows(label, 60, 1),
                holdout=[row for one in seen.split() for row in make_rows(one, 60, 9)],
                params={"features": 200, "gamma": 0.5},
            )
            spec = JobSpec.read(path)
            train_fast(spec, Context())
            previous = spec.out
        assert previous is not None
        solved.append((read_head(previous), read_card(previous).settings))
    (one, chosen), (two, again) = solved
    assert chosen == again
    X = np.random.default_rng(0).standard_normal((50, 32))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    assert one.labels == two.labels
    np.testing.assert_allclose(one.logits(X), two.logits(X), rtol=0, atol=1e-6)
