"""What versions may tell of a row: counted as the row that was told of most, and refused once it is spent."""

import json
import math
from pathlib import Path

import pytest

from perennial.continual.errors import ConfigurationError, DataError, Refused
from perennial.continual.privacy.budget import Budget, Cost, Telling, Terms, spent_by
from perennial.continual.privacy.noise import Privacy, epsilon_of

ONE = 1.0 / Privacy(epsilon=1.0, delta=1e-5).multiplier
ALL, NEW, CHANGED = Telling.ALL, Telling.NEW, Telling.CHANGED


def terms(folder: Path, version: int, epsilon: float = 1.0, limit: float = 1.5) -> Terms:
    return Terms(
        epsilon=epsilon, delta=1e-5, limit=limit, budget=folder / "budget.json", model="intent", version=version
    )


def told(*chain: tuple[int, int | None, Telling]) -> float:
    """The square of what all versions have told, in tellings of one of them."""
    costs = [Cost(version=number, parent=parent, telling=telling, mu=ONE, at="") for number, parent, telling in chain]
    epsilon = spent_by(costs, 1e-5)
    counts = [count for count in range(20) if epsilon == pytest.approx(epsilon_of(math.sqrt(count) * ONE, 1e-5))]
    assert len(counts) == 1
    return counts[0]


@pytest.mark.parametrize(
    ("chain", "times"),
    [
        ((), 0),
        (((1, None, ALL),), 1),
        (((1, None, ALL), (2, 1, NEW), (3, 2, NEW), (4, 3, NEW)), 1),  # each tells of rows that no other has told of
        (((1, None, ALL), (2, 1, NEW), (3, 1, NEW)), 2),  # made of the first again: the second's rows may be in it
        (((1, None, ALL), (2, 1, NEW), (3, 1, NEW), (4, 3, NEW)), 2),
        (((1, None, ALL), (2, None, ALL)), 2),
        (((1, None, ALL), (2, 1, CHANGED)), 3),  # told, taken back, and it may come once more
        (((1, None, ALL), (2, 1, CHANGED), (3, 2, NEW)), 3),
        (((1, None, ALL), (2, 1, CHANGED), (3, 2, CHANGED)), 5),
        (((1, None, NEW),), 1),
        (((1, 7, NEW),), 1),  # of a version that the file does not know
    ],
)
def test_versions_cost_as_often_as_one_row_can_have_been_told_of(
    chain: tuple[tuple[int, int | None, Telling], ...], times: int
) -> None:
    assert told(*chain) == times


def test_more_noise_in_between_makes_nothing_cheaper_and_less_noise_makes_it_dearer() -> None:
    first = Cost(version=1, parent=None, telling=ALL, mu=ONE, at="")
    louder = Cost(version=2, parent=1, telling=NEW, mu=ONE / 2, at="")
    clearer = Cost(version=3, parent=2, telling=NEW, mu=2 * ONE, at="")
    assert spent_by([first, louder], 1e-5) == spent_by([first], 1e-5)
    assert spent_by([first, louder, clearer], 1e-5) == pytest.approx(epsilon_of(2 * ONE, 1e-5))


def test_a_version_beyond_the_budget_is_refused_and_not_counted(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "budget.json")
    assert budget.spend(terms(tmp_path, 1), ALL, parent=None) == pytest.approx(1.0)
    assert budget.spend(terms(tmp_path, 2), NEW, parent=1) == pytest.approx(1.0)
    assert budget.spend(terms(tmp_path, 3), ALL, parent=None) == pytest.approx(1.465, abs=1e-3)
    with pytest.raises(
        Refused,
        match=r"version 4 of intent would tell of all rows .* together have told 1\.8.* at delta 1e-05; the budget is "
        r"1\.5, of which 3 versions have spent 1\.4.*: raise \[models\.intent\.privacy\] epsilon",
    ):
        budget.spend(terms(tmp_path, 4), ALL, parent=None)
    assert [cost.version for cost in budget.costs] == [1, 2, 3]
    assert (tmp_path / "budget.json").stat().st_mode & 0o077 == 0


def test_an_erasure_is_never_refused_and_what_comes_after_it_is(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "budget.json")
    budget.spend(terms(tmp_path, 1, limit=1.0), ALL, parent=None)
    assert budget.spend(terms(tmp_path, 2, limit=1.0), CHANGED, parent=1, forced=True) > 1.5
    with pytest.raises(Refused, match="of which 2 versions"):
        budget.spend(terms(tmp_path, 3, limit=1.0), NEW, parent=2)


def test_a_version_that_is_made_again_is_counted_once(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "budget.json")
    for _ in range(3):
        assert budget.spend(terms(tmp_path, 1), ALL, parent=None) == pytest.approx(1.0)
    assert len(budget.costs) == 1


@pytest.mark.parametrize("content", ["{", "[1]", '[{"version": 1}]', '[{"telling": "a rumour"}]'])
def test_a_damaged_budget_lets_nothing_be_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "budget.json").write_text(content)
    with pytest.raises(DataError, match="restore its backup"):
        Budget(tmp_path / "budget.json").spend(terms(tmp_path, 1), ALL, parent=None)


def test_terms_come_back_as_a_job_is_told_them_and_no_others(tmp_path: Path) -> None:
    given = terms(tmp_path, 3)
    assert Terms.of(json.loads(json.dumps(given.record()))) == given
    for wrong in ({"epsilon": 0.0}, {"more": 1}, {"budget": None}):
        with pytest.raises(ConfigurationError):
            Terms.of({**given.record(), **wrong})
