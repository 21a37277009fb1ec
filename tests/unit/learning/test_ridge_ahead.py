"""What is worked out ahead of an update changes what it costs, and not what comes of it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from perennial.continual.learning.calibration import places_of
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.head import HeadWeights
from perennial.continual.learning.normal_equations import Penalty, Regression
from perennial.continual.learning.ridge import Ridge
from tests.unit.learning.test_ridge import learnt, rows

PENALTY = Penalty(shrinkage=0.03, words=0.3)
BEFORE, FRESH, PROOF = 150, 40, 30
Change = Callable[[Ridge, ClassRows], None]


def keyed(given: ClassRows, first: int) -> ClassRows:
    return replace(given, keys=range(first, first + len(given)), texts=[f"{t} {first}" for t in given.texts or ()])


OLD, NEW, HELD = keyed(rows(BEFORE), 0), keyed(rows(FRESH, 1), 1_000), keyed(rows(PROOF, 2), 2_000)
LABELS = ("c0", "c1", "c2", "c3")
TURNED = replace(OLD.at(range(9)), labels=[LABELS[(LABELS.index(label) + 1) % 4] for label in OLD.labels[:9]])
UNHEARD = replace(NEW, labels=["new" if label == "c3" else label for label in NEW.labels])


def after(head: Ridge, *changes: ClassRows) -> Ridge:
    for more in changes:
        head.add(more)
    return head


def ahead(sketches: int, proof: ClassRows) -> Ridge:
    head = learnt(OLD, sketches)
    head.look_ahead(PENALTY, proof, OLD.at(range(20)))
    return head


def exact(head: Ridge, more: ClassRows) -> list[tuple[Regression, Regression]] | None:
    """What was worked out ahead makes of each sketch, in float64."""
    assert head._ahead is not None
    equations, members = head.equations(), np.zeros((len(head.labels), len(more)))
    members[places_of(more.labels, head.labels), np.arange(len(more))] = 1.0
    own = np.split(head.mapped(more), len(equations), axis=1)
    return head._ahead.solutions(equations, PENALTY, more, own.__getitem__, members)


@pytest.mark.parametrize(
    "changes",
    [(), (NEW,), (NEW.at(range(20)), NEW.at(range(20, 40))), (TURNED,), (TURNED, NEW, NEW), (UNHEARD,)],
    ids=["nothing", "rows", "rows in turns", "other labels", "both, and again", "a new class"],
)
@pytest.mark.parametrize("known", [0, 12, PROOF], ids=["no proof known", "a part known", "all known"])
def test_solutions_are_those_without_looking_ahead(changes: tuple[ClassRows, ...], known: int) -> None:
    quick, plain = after(ahead(3, HELD.at(range(known))), *changes), after(learnt(OLD, 3), *changes)
    for name, array in plain.named.arrays.items():
        assert np.array_equal(quick.named.arrays[name], array)
    found = exact(quick, HELD)
    assert found is not None
    whole = after(plain.copy(), HELD)
    for pair, without, within in zip(found, plain.equations(), whole.equations(), strict=True):
        for one, equations in zip(pair, (without, within), strict=True):
            whole_matrix = np.triu(equations.matrix(np.float64, PENALTY))
            whole_matrix += np.triu(whole_matrix, 1).T
            weight = np.linalg.solve(whole_matrix, (equations.towards * equations.scale(PENALTY)).T)
            expected = equations.regression(weight, PENALTY)
            np.testing.assert_allclose(one.weight, expected.weight, rtol=0, atol=1e-10 * np.abs(expected.weight).max())
            np.testing.assert_allclose(one.bias, expected.bias, rtol=0, atol=1e-10)
    for one, other in zip(quick.solve_with(HELD, PENALTY), plain.solve_with(HELD, PENALTY), strict=True):
        np.testing.assert_allclose(one.weight, other.weight, rtol=0, atol=1e-6)
        np.testing.assert_allclose(one.lexical, other.lexical, rtol=0, atol=1e-6)


def test_rows_are_seen_as_without_looking_ahead() -> None:
    head, asked = ahead(3, HELD), OLD.at(range(15, 25)).joined(HELD.at(range(5, 9)))
    for name in ("of_embeddings", "of_words"):
        given, own = getattr(head.seen(asked), name), getattr(head._see(asked), name)
        np.testing.assert_allclose(given, own, rtol=0, atol=1e-12)


def _bytes(heads: tuple[HeadWeights, HeadWeights]) -> list[bytes]:
    return [array.tobytes() for head in heads for array in (head.weight, head.bias, head.lexical) if array is not None]


def _taken_back(head: Ridge, more: ClassRows) -> None:
    del more
    head.remove(OLD.at(range(5)))


def _merged(head: Ridge, more: ClassRows) -> None:
    other = learnt(ClassRows(X=more.X[:0], labels=[], texts=[]), 3)
    other.add(more)
    head.merge(other)


def _without_keys(head: Ridge, more: ClassRows) -> None:
    head.add(replace(more, keys=None))


@pytest.mark.parametrize("change", [_taken_back, _merged, _without_keys])
def test_what_it_was_not_made_for_goes_without_it(change: Change) -> None:
    heads = [ahead(3, HELD), learnt(OLD, 3)]
    for head in heads:
        change(head, NEW)
    one, other = (_bytes(head.solve_with(HELD, PENALTY)) for head in heads)
    assert one == other


def test_another_penalty_goes_without_it() -> None:
    other = replace(PENALTY, shrinkage=0.3)
    one, plain = (_bytes(head.solve_with(HELD, other)) for head in (ahead(3, HELD), learnt(OLD, 3)))
    assert one == plain


def test_a_solution_that_is_not_exact_is_not_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the factor is not that of the sums."""
    head = ahead(1, HELD)
    assert head._ahead is not None
    sketch = head._ahead._sketches[0]
    monkeypatch.setattr(sketch, "_factor", sketch._factor * (1 + 1e-7))
    after(head, NEW)
    assert exact(head, HELD) is None
    plain = after(learnt(OLD), NEW)
    assert _bytes(head.solve_with(HELD, PENALTY)) == _bytes(plain.solve_with(HELD, PENALTY))
