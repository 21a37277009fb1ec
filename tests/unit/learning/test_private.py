"""Trainings with noise: what they tell, what they carry on, what they refuse, and what an erasure takes back."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, Refused
from perennial.continual.learning import private_gradients
from perennial.continual.learning.card import PRIVACY, ModelCard
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.context import Context
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.kernel_lda import KernelLda
from perennial.continual.learning.learners import train_model
from perennial.continual.learning.open_set import OPEN_SET_FILE
from perennial.continual.learning.private import chosen_temperature
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.told_sums import TOLD_FILE, ToldSums, exact_sums
from perennial.continual.learning.trained import PROOF_FILE, STATISTICS_FILE, read_head
from perennial.continual.privacy.budget import Budget, Terms
from perennial.continual.privacy.noise import Privacy, clipped, longest_row, outer_noise
from tests.unit.learning.conftest import make_rows

pytestmark = pytest.mark.slow

Write = Callable[..., Path]
ROWS, MORE, PROOF = make_rows("card loan", 150, 1), make_rows("card trip", 60, 2), make_rows("card loan", 40, 9)
QUIET = 1e-3  # of the noise below: epsilon so large that answers are those without noise


class Versions:
    """Trains versions of one model, one after the other, from one budget."""

    def __init__(self, folder: Path, write: Write, *, epsilon: float, limit: float = 1e9, by: str = "sums") -> None:
        self._folder, self._write, self._by = folder, write, by
        self.epsilon, self.limit, self.budget = epsilon, limit, folder / "budget.json"

    def train(self, version: int, previous: int | None = None, parent: int | None = None, **fields: Any) -> ModelCard:
        terms = Terms(
            epsilon=self.epsilon,
            delta=1e-5,
            limit=self.limit,
            budget=self.budget,
            model="intent",
            version=version,
            by=self._by,
        )
        before = None if previous is None else self.folder(previous)
        path = self._write(
            f"v{version}",
            privacy=terms.record(),
            previous=before,
            parent_version=previous if parent is None else parent,
            holdout=PROOF,
            params={},
            **fields,
        )
        return train_model(JobSpec.read(path), Context())

    def folder(self, version: int) -> Path:
        return self._folder / f"v{version}-out"

    def exact(self, version: int) -> KernelLda:
        return KernelLda.load(self.folder(version) / STATISTICS_FILE)

    def told(self, version: int) -> ToldSums:
        return ToldSums.read(self.folder(version) / TOLD_FILE)


@pytest.fixture
def spec(make_spec: Write) -> Write:
    return lambda name, **fields: make_spec(name, **{key: value for key, value in fields.items() if value is not None})


@pytest.fixture
def loud(tmp_path: Path, spec: Write) -> Versions:
    return Versions(tmp_path, spec, epsilon=2.0, limit=3.0)


@pytest.fixture
def quiet(tmp_path: Path, spec: Write) -> Versions:
    return Versions(tmp_path, spec, epsilon=1e6)


def apart(told: ToldSums, exact: KernelLda) -> np.ndarray:
    """Outer products off the diagonal: told less exact."""
    difference = told.named.arrays["outer"] - exact_sums(exact).arrays["outer"]
    found: np.ndarray = difference[np.tril_indices(len(difference), -1)]
    return found


def test_a_version_has_noise_and_the_next_one_tells_of_its_new_rows_alone(loud: Versions) -> None:
    first = loud.train(1, examples=ROWS)
    assert (first.labels, first.data["rows"], first.head) == (("card", "loan"), 300, "kernel_lda")
    told = first.settings[PRIVACY]
    assert (told["by"], told["told"], told["epsilon"], told["delta"], told["budget"]) == (
        "sums",
        "all rows",
        2.0,
        1e-5,
        3.0,
    )
    assert told["epsilon_spent"] == pytest.approx(2.0)
    spread = outer_noise(longest_row(loud.exact(1)), Terms.of(_terms(loud)).privacy.multiplier)
    assert apart(loud.told(1), loud.exact(1)).std() == pytest.approx(spread, rel=0.15)
    assert not (loud.folder(1) / PROOF_FILE).exists(), "no held-out row is learnt after the proof"
    assert not (loud.folder(1) / OPEN_SET_FILE).exists()

    second = loud.train(2, previous=1, examples=MORE)
    assert second.settings[PRIVACY]["told"] == "new rows"
    assert second.settings[PRIVACY]["epsilon_spent"] == pytest.approx(2.0), "nobody's row was told of twice"
    assert second.labels == ("card", "loan", "trip")
    assert second.temperature == first.temperature, "held-out rows were told of before"
    kept = apart(loud.told(2), loud.exact(2)) - apart(loud.told(1), loud.exact(1))
    assert kept.std() == pytest.approx(spread, rel=0.15), "new noise is on what is new"
    assert loud.told(2).variance == pytest.approx(2 * spread**2)

    same = loud.train(3, previous=2, examples=MORE)
    assert (same.settings[PRIVACY]["told"], same.settings[PRIVACY]["version"]) == ("nothing", 2)
    np.testing.assert_array_equal(read_head(loud.folder(3)).weight, read_head(loud.folder(2)).weight)
    assert len(Budget(loud.budget).costs) == 2
    more = loud.train(4, previous=3, examples=make_rows("card", 30, 5))
    assert more.settings[PRIVACY]["epsilon_spent"] == pytest.approx(2.0), "a version that told nothing is no break"
    assert all(array.flags.writeable for array in loud.told(2).named.arrays.values())


def _terms(versions: Versions) -> dict[str, Any]:
    return Terms(epsilon=versions.epsilon, delta=1e-5, limit=1.0, budget=versions.budget, model="m", version=1).record()


def test_rows_told_of_again_spend_until_the_budget_refuses(loud: Versions) -> None:
    loud.train(1, examples=ROWS)
    loud.train(2, previous=1, examples=MORE)
    again = loud.train(3, previous=1, examples=MORE)  # the second was turned away
    assert again.settings[PRIVACY]["epsilon_spent"] == pytest.approx(2.96, abs=0.01)
    with pytest.raises(Refused, match=r"version 4 of intent would tell of all rows .* the budget is 3, of which 3"):
        loud.train(4, examples=[*ROWS, *MORE], parent=3)
    assert not (loud.folder(4) / "model.json").exists()


def test_an_erasure_takes_rows_back_with_noise_though_the_budget_is_spent(quiet: Versions) -> None:
    quiet.limit = quiet.epsilon
    quiet.train(1, examples=ROWS)
    less = quiet.train(2, previous=1, erase=ROWS[:40])
    assert (less.data["rows"], less.data["rows_removed"]) == (260, 40)
    assert less.settings[PRIVACY]["told"] == "changed rows"
    assert less.settings[PRIVACY]["epsilon_spent"] > quiet.limit
    quiet.limit = math.inf
    without = quiet.train(9, examples=ROWS[40:])
    assert without.settings[PRIVACY]["budget"] is None, "JSON has no word for no limit"
    quiet.limit = quiet.epsilon
    for name, array in exact_sums(quiet.exact(2)).sorted().items():
        np.testing.assert_allclose(array, exact_sums(quiet.exact(9)).sorted()[name], atol=1e-9)
    assert np.abs(apart(quiet.told(2), quiet.exact(2))).max() < QUIET, "of the erased rows nothing is told any more"
    assert without.labels == less.labels
    with pytest.raises(Refused):
        quiet.train(3, previous=2, examples=MORE)


def test_a_row_that_moves_to_another_class_counts_as_changed(quiet: Versions) -> None:
    quiet.train(1, examples=ROWS)
    moved = [replace(row, label="loan" if row.label == "card" else "card") for row in ROWS[:3]]
    second = quiet.train(2, previous=1, examples=moved)
    assert second.settings[PRIVACY]["told"] == "changed rows"


def test_with_hardly_any_noise_a_version_answers_as_one_without(quiet: Versions, spec: Write) -> None:
    card = quiet.train(1, examples=ROWS)
    plain = train_model(
        JobSpec.read(
            spec(
                "plain",
                examples=ROWS,
                holdout=PROOF,
                params={"bounded": True, "shrinkage": 1e-6, "priors": "empirical"},
            )
        ),
        Context(),
    )
    assert card.metrics["holdout_accuracy"] == pytest.approx(plain.metrics["holdout_accuracy"], abs=0.06)
    assert card.temperature in [2.0 ** (step / 2) for step in range(-2, 7)]


class Same:
    """Noise that is the same number everywhere, and another one in the last place."""

    def __init__(self, number: float, last: float) -> None:
        self._number, self._last = number, last

    def standard_normal(self, size: tuple[int, ...]) -> np.ndarray:
        drawn = np.full(size, self._number)
        drawn[-1] = self._last
        return drawn


def test_whether_enough_rows_are_held_out_is_told_with_as_much_noise_as_their_losses() -> None:
    losses = np.array([9.0, 8.0, 7.0, 6.0, 5.0, 1.0, 5.0, 6.0, 7.0])
    assert chosen_temperature(losses, 50, 1.0, Same(0.0, 0.0)) == 2.0**1.5
    assert chosen_temperature(losses, 49, 1.0, Same(0.0, 0.0)) == 1.0
    assert chosen_temperature(losses, 47, 1.0, Same(0.0, 1.0)) == 2.0**1.5  # 10 ** 0.5 rows more are seen
    assert chosen_temperature(losses, 46, 1.0, Same(0.0, 1.0)) == 1.0
    assert chosen_temperature(np.zeros(9), 0, 1.0, Same(1.0, 0.0)) == 1.0


def test_longer_embeddings_are_cut_before_they_are_summed() -> None:
    rows = np.array([[3.0, 4.0], [0.6, 0.8], [1e-30, 0.0], [1e30, 1e30]], np.float32)
    cut = clipped(rows)
    assert np.linalg.norm(cut, axis=1).max() <= 1.004
    np.testing.assert_array_equal(cut[1:3], rows[1:3])


@pytest.mark.parametrize("learner", ["ridge", "auto"])
def test_a_learner_without_noise_is_refused(quiet: Versions, learner: str) -> None:
    with pytest.raises(ConfigurationError, match=f"learner '{learner}' has no noise"):
        quiet.train(1, examples=ROWS, learner=learner)


def test_gradients_with_noise_by_opacus_learn_the_same_classes(tmp_path: Path, spec: Write) -> None:
    versions = Versions(tmp_path, spec, epsilon=50.0, by="gradients")
    card = versions.train(1, examples=ROWS)
    assert card.settings[PRIVACY]["by"] == "gradients"
    assert card.metrics["holdout_accuracy"] > 0.8
    assert not (versions.folder(1) / TOLD_FILE).exists()
    assert versions.exact(1).rows == 300, "so that rows can be found and taken back"
    less = versions.train(2, previous=1, erase=ROWS[:10])
    assert (less.settings[PRIVACY]["by"], less.settings[PRIVACY]["told"]) == ("sums", "all rows")
    assert less.data["rows"] == 290


def test_rows_that_do_not_fit_in_memory_together_give_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, rng = KernelLda(FourierFeatures.bounded(dimension=8, seed=0)), np.random.default_rng(0)
    X = rng.standard_normal((250, 8))
    rows = ClassRows(X=X / np.linalg.norm(X, axis=1, keepdims=True), labels=["a" if x > 0 else "b" for x in X[:, 0]])
    sums.add(rows)
    hardly = Privacy(epsilon=1e6, delta=1e-5)
    whole = private_gradients.head_by_gradients(sums, rows, hardly, steps=5)
    monkeypatch.setattr(private_gradients, "_AT_ONCE", 100)
    pieces = private_gradients.head_by_gradients(sums, rows, hardly, steps=5)
    assert np.abs(whole.weight).max() > 0.1
    np.testing.assert_allclose(pieces.weight, whole.weight, atol=0.01 * np.abs(whole.weight).max())
