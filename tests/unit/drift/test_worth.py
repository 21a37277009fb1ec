"""What learning would buy: the apprentice, and the test that bets on it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from perennial.continual.apprentice import LoggedAnswers
from perennial.continual.drift import apprentice
from perennial.continual.drift.apprentice import ClassApprentice
from perennial.continual.drift.worth import ExpectedGain, Worth, WorthTest
from perennial.continual.errors import DataError
from perennial.continual.tasks import TASKS

_CLASSES = 12


def _stream(
    rows: int, *, new: float, seed: int = 3, errors: float = 0.1
) -> tuple[NDArray[np.float32], list[str], list[str]]:
    """Embeddings, a champion's answers, truths: it knows all but the last four classes, and errs by pure chance."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(_CLASSES, 24))
    unknown = rng.random(rows) < new
    truth = np.where(unknown, rng.integers(_CLASSES - 4, _CLASSES, rows), rng.integers(0, _CLASSES - 4, rows))
    said = np.where(unknown | (rng.random(rows) < errors), rng.integers(0, _CLASSES - 4, rows), truth)
    x = (centres[truth] + rng.normal(size=(rows, 24))).astype(np.float32)
    return x, [f"class {c}" for c in said], [f"class {c}" for c in truth]


def _equal(answer: str, target: str) -> float:
    return float(answer == target)


def _followed(
    x: NDArray[np.float32], said: list[str], truth: list[str], *, step: int = 100, run_length: float = 1e6
) -> Worth:
    worth = Worth(test=WorthTest(run_length=run_length), apprentice=ClassApprentice())
    for begin in range(0, len(said), step):
        part = slice(begin, begin + step)
        scores: list[float | None] = [_equal(a, b) for a, b in zip(said[part], truth[part], strict=True)]
        asked = LoggedAnswers(embeddings=x[part], answers=said[part], confidences=np.full(len(said[part]), 0.9))
        worth.follow(asked, truth[part], champion=scores, score=_equal)
    return worth


def test_new_classes_are_found_within_a_few_hundred_labels_and_what_learning_would_buy_is_told() -> None:
    worth = _followed(*_stream(1_500, new=0.3, errors=0.0))
    assert worth.found_at is not None
    assert worth.found_at < 400
    assert worth.evidence == 1e6, "what is found stays found, though the detector begins afresh"
    assert worth.gain is not None
    assert 0.2 < worth.gain.low < worth.gain.value < worth.gain.high < 0.4


@pytest.mark.parametrize("seed", range(5))
def test_errors_that_nobody_could_learn_open_nothing(seed: int) -> None:
    x, said, _ = _stream(6_000, new=0.0, seed=seed, errors=0.0)
    rng = np.random.default_rng(seed)
    truth = [f"class {rng.integers(_CLASSES)}" if rng.random() < 0.2 else answer for answer in said]
    worth = _followed(x, said, truth, run_length=100_000.0)
    assert worth.found_at is None
    assert worth.gain is not None
    assert worth.gain.low < 0.0 < worth.gain.high


def test_the_same_labels_cut_in_other_parts_leave_the_same() -> None:
    x, said, truth = _stream(900, new=0.2)
    one, other = (_followed(x, said, truth, step=step) for step in (1, 211))
    assert one.evidence == pytest.approx(other.evidence)
    assert (one.found_at, one.compared, one.gain) == (other.found_at, other.compared, other.gain)


def test_evidence_that_was_answered_begins_anew_and_what_was_learnt_stays() -> None:
    x, said, truth = _stream(1_500, new=0.3)
    worth = _followed(x, said, truth)
    worth.begin_anew()
    assert (worth.found_at, worth.evidence) == (None, 0.0)
    scores: list[float | None] = [_equal(a, b) for a, b in zip(said, truth, strict=True)]
    worth.follow(LoggedAnswers(embeddings=x, answers=said), truth, champion=scores, score=_equal)
    assert worth.found_at is not None
    assert worth.found_at - 1_500 < 150, "what was learnt already speaks at once"


def test_answers_that_must_not_speak_are_learnt_and_not_compared() -> None:
    x, said, truth = _stream(600, new=0.3)
    worth = Worth(test=WorthTest(), apprentice=ClassApprentice())
    worth.follow(LoggedAnswers(embeddings=x, answers=said), truth, champion=[None] * 600, score=_equal)
    assert (worth.compared, worth.gain, worth.found_at) == (0, None, None)


def test_classes_beyond_the_most_stay_the_champions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apprentice, "_MOST_CLASSES", 4)
    x, said, truth = _stream(600, new=0.3)
    answers = ClassApprentice().follow(LoggedAnswers(embeddings=x, answers=said), truth)
    own = [answer for answer, before in zip(answers, said, strict=True) if answer != before]
    assert own
    assert set(own) <= {*truth[:16], *said[:16]}
    assert len(set(own)) <= 4


def test_an_interval_of_no_differences_is_no_certainty() -> None:
    gain = ExpectedGain.of([0.0] * 50)
    assert gain is not None
    assert gain.low < 0.0 < gain.high
    assert ExpectedGain.of([1.0]) is None


def test_a_share_that_learning_can_not_buy_is_refused() -> None:
    with pytest.raises(DataError, match="give a share in"):
        WorthTest(least=1.0)
    with pytest.raises(DataError, match="one row for each answer"):
        LoggedAnswers(embeddings=np.zeros((2, 3), dtype=np.float32), answers=["a"])


def test_each_task_has_an_apprentice_but_the_one_whose_log_keeps_no_choices() -> None:
    assert {name for name, task in TASKS.items() if task.apprentice() is None} == {"generation", "ranking"}
