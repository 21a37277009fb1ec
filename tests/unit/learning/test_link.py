"""A least-squares head estimates probabilities; a link makes logarithms of them where held-out rows like it better."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.arrays import softmax
from perennial.continual.errors import DataError
from perennial.continual.learning.calibration import Link, fit_link, fit_temperature, log_loss
from perennial.continual.learning.head import HeadWeights
from perennial.continual.learning.lexical import LexicalFeatures, WordScores
from perennial.continual.learning.trained import HEAD_FILE, read_head, write_head
from tests.unit.learning.cards import text_card

CLASSES = 60


def estimates(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 1 and -1 as least squares gives them: true probabilities of three classes a row, and noise."""
    rng = np.random.default_rng(seed)
    chances = np.zeros((rows, CLASSES))
    for row in range(rows):
        chances[row, rng.choice(CLASSES, 3, replace=False)] = rng.dirichlet([6.0, 0.6, 0.3])
    truth = np.array([rng.choice(CLASSES, p=each) for each in chances])
    scores = 2.0 * (chances + 0.03 * rng.standard_normal(chances.shape)) - 1.0
    return scores - scores.mean(axis=1, keepdims=True), truth


def test_rows_that_were_held_out_choose_a_link_and_new_rows_lose_less_by_it() -> None:
    scores, truth = estimates(800, seed=1)
    temperature = fit_temperature(scores, truth)
    link = fit_link(scores / temperature, truth, temperature)
    assert link is not None
    later, wanted = estimates(3000, seed=2)
    judged = {}
    for name, logits in (("plain", later / temperature), ("linked", link(later / temperature))):
        judged[name] = (log_loss(logits, wanted), logits.argmax(axis=1))
    assert judged["linked"][0] < judged["plain"][0] - 0.02
    np.testing.assert_array_equal(judged["linked"][1], judged["plain"][1])


def test_a_handful_of_rows_and_log_odds_choose_none() -> None:
    scores, truth = estimates(800, seed=1)
    assert fit_link(scores[:0], truth[:0], 0.15) is None
    rng = np.random.default_rng(0)
    logits = 2.0 * rng.standard_normal((2000, 4))
    drawn = np.array([rng.choice(4, p=each) for each in softmax(logits)])
    assert fit_link(logits, drawn, 1.0) is None


def test_what_was_written_and_cooled_answers_as_before(tmp_path: Path) -> None:
    """As the trained head, and as the router, which has the engine's part in float32."""
    rng = np.random.default_rng(3)
    head = HeadWeights(
        labels=("no", "perhaps", "yes"),
        omega=rng.standard_normal((4, 16)).astype(np.float32),
        phase=np.zeros(16, dtype=np.float32),
        weight=rng.standard_normal((3, 16)).astype(np.float32),
        bias=np.zeros(3, dtype=np.float32),
        temperature=1.0,
        lexical=rng.standard_normal((3, 64)).astype(np.float32),
        words=LexicalFeatures(size=64, of_words=40),
        link=Link(slope=0.1, shift=1 / 3, floor=0.05, power=4.0),
    )
    X, texts = rng.standard_normal((5, 4)), ["my card", "a loan", "", "卡", "trip"]
    write_head(tmp_path, head)
    text_card("ridge", labels=head.labels).write(tmp_path)
    wanted = head.logits(X, texts)
    np.testing.assert_array_equal(read_head(tmp_path).logits(X, texts), wanted)
    np.testing.assert_allclose(head.cooled(2.0).logits(X, texts), wanted, atol=1e-4)
    words = WordScores.read(tmp_path / HEAD_FILE)
    assert words is not None
    engine = replace(head, lexical=None, link=None).logits(X).astype(np.float32)
    np.testing.assert_allclose(words.whole(engine, texts), wanted, atol=1e-4)


def test_a_link_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="must be positive"):
        Link(slope=0.1, shift=0.5, floor=0.0, power=1.0)
