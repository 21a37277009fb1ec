import numpy as np
import pytest

from benchmarks.learning_arms import Update
from benchmarks.learning_score import compare, score

ORDER, PER_UPDATE = [2, 0, 3, 1], 2
Y_TEST = np.array([0, 1, 2, 3, 0, 1, 2, 3])


def about(name: str) -> dict[str, object]:
    return {"name": name, "order": 0, "buffer_rows": 0}


def update(columns: list[int]) -> Update:
    """Scores that answer with the given class for each test row."""
    return Update(scores=np.eye(4, dtype=np.float32)[columns], seconds=1.0, steps=5)


def test_score_restricts_answers_to_the_classes_met_so_far() -> None:
    knows_all = [update(Y_TEST.tolist()), update(Y_TEST.tolist())]
    perfect = score(about("perfect"), knows_all, ORDER, Y_TEST, PER_UPDATE).record
    assert perfect["final_accuracy"] == perfect["mean_accuracy"] == 100.0
    np.testing.assert_array_equal(perfect["accuracy_matrix"], [[100.0, 0.0], [100.0, 100.0]])
    assert perfect["steps"] == 10


def test_score_tells_forgetting_from_confusion_with_newer_classes() -> None:
    scores = np.eye(4, dtype=np.float32)[Y_TEST]
    confused = scores.copy()
    confused[:, [1, 3]] += 2.0  # the newer classes win everywhere, the older are still told apart
    record = score(
        about("confused"),
        [Update(scores=scores, seconds=1.0, steps=1), Update(scores=confused, seconds=1.0, steps=1)],
        ORDER,
        Y_TEST,
        PER_UPDATE,
    ).record
    assert record["forgetting"] == 100.0
    assert record["forgetting_old_classes_only"] == 0.0
    assert record["final_accuracy"] == 50.0


def test_compare_pairs_the_rows_of_the_orders_that_both_ran() -> None:
    good = score(about("good"), [update(Y_TEST.tolist())] * 2, ORDER, Y_TEST, PER_UPDATE)
    poor = score(about("poor"), [update([0] * 8)] * 2, ORDER, Y_TEST, PER_UPDATE)
    found = compare([good], [poor], np.random.default_rng(0))
    assert found["difference"] == pytest.approx(75.0)
    assert found["verdict"] == "ahead"
    assert compare([poor], [good], np.random.default_rng(0))["verdict"] == "behind"
    assert compare([good], [good], np.random.default_rng(0))["verdict"] == "equal within the interval"
