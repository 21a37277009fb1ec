import numpy as np
import pytest

from perennial.continual.errors import DataError
from perennial.continual.labelling import doubt_labels

LABELS = ["a", "b", "c"]


def noisy(rows: int, flipped: int, seed: int = 0) -> tuple[np.ndarray, list[str], set[int]]:
    """Probabilities of a good model, and labels of which the first `flipped` are wrong."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, rows)
    p = rng.dirichlet([1, 1, 1], rows) * 0.3
    p[np.arange(rows), true] += 0.7
    given = [LABELS[(t + 1) % 3] if i < flipped else LABELS[t] for i, t in enumerate(true)]
    return p, given, set(range(flipped))


def test_flipped_labels_are_found_and_corrected() -> None:
    p, given, wrong = noisy(300, 15)
    found = doubt_labels(p, given, LABELS)
    flagged = {doubt.index for doubt in found}
    assert len(flagged & wrong) >= 8  # the rule flags what is surer than usual: about the surer half
    assert len(flagged - wrong) == 0
    assert [doubt.excess for doubt in found] == sorted((doubt.excess for doubt in found), reverse=True)
    assert all(doubt.given == given[doubt.index] != doubt.suggested for doubt in found)


def test_clean_labels_of_a_right_model_are_left_alone() -> None:
    p, given, _ = noisy(300, 0)
    assert doubt_labels(p, given, LABELS) == ()


def test_a_class_the_model_is_never_sure_of_flags_less_than_the_plain_argmax() -> None:
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.4, 0.6]])
    assert doubt_labels(p, ["a", "a", "b", "b"], ["a", "b"]) == ()


def test_a_label_the_model_does_not_know_is_new_and_not_noise() -> None:
    assert doubt_labels([[0.9, 0.1]], ["brand_new"], ["a", "b"]) == ()
    assert doubt_labels(np.empty((0, 2)), [], ["a", "b"]) == ()


def test_wrong_input_is_refused() -> None:
    with pytest.raises(DataError, match="2 rows by 2 labels"):
        doubt_labels([[0.9, 0.1]], ["a", "b"], ["a", "b"])
    with pytest.raises(DataError, match="sum to"):
        doubt_labels([[0.9, 0.4]], ["a"], ["a", "b"])
