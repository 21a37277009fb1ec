"""The rows that prove a closed form are learnt after it was proved, and only then."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.learning.answering import answer
from perennial.continual.learning.card import read_card
from perennial.continual.learning.context import Context
from perennial.continual.learning.fast import train_fast
from perennial.continual.learning.learners import sums_hold
from perennial.continual.learning.mapped_rows import mapped_once
from perennial.continual.learning.proof_answers import answer_holdout, read_proof_answers
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.sums import load_keys
from perennial.continual.learning.trained import HEAD_FILE, PROOF_FILE, STATISTICS_FILE, read_head, read_proved_head
from perennial.continual.preparation import row_hash
from perennial.continual.records import Example
from tests.unit.learning.conftest import make_rows

pytestmark = pytest.mark.slow

FORMS = {
    "kernel_lda": {"features": 120, "gamma": 0.5, "shrinkage": 1e-3, "priors": "uniform"},
    "ridge": {
        "features": 120,
        "lexical": 60,
        "sketches": 2,
        "gamma": 0.5,
        "shrinkage": 0.3,
        "words": 0.5,
        "priors": "empirical",
    },
}
LEARNT, HELD = make_rows("card loan trip", 30, 1), make_rows("card loan trip", 15, 9)


def keys_of(rows: list[Example]) -> frozenset[int]:
    return frozenset(row_hash(row.text) for row in rows)


@pytest.fixture(params=sorted(FORMS))
def job(request: pytest.FixtureRequest, make_spec: Callable[..., Path]) -> Callable[..., JobSpec]:
    """Carries a job of one closed form out and returns its spec."""

    def carried_out(name: str, **fields: object) -> JobSpec:
        own = {"learner": request.param, "params": FORMS[request.param], **fields}
        spec = JobSpec.read(make_spec(name, **own))
        train_fast(spec, Context())
        return spec

    return carried_out


def test_the_head_that_answers_has_learnt_what_proved_it(job: Callable[..., JobSpec], tmp_path: Path) -> None:
    spec = job("first", examples=LEARNT, holdout=HELD)
    alone, joint = job("alone", examples=LEARNT), job("joint", examples=[*LEARNT, *HELD])
    proved, answering = read_proved_head(spec.out), read_head(spec.out)
    for found, wanted in ((proved, read_head(alone.out)), (answering, read_head(joint.out))):
        scale = found.temperature / wanted.temperature
        np.testing.assert_allclose(found.weight * scale, wanted.weight, rtol=0, atol=1e-4 * np.abs(wanted.weight).max())
    card = read_card(spec.out)
    assert (card.data["rows"], card.data["rows_after_proof"]) == (90, 45)
    assert load_keys(spec.out / STATISTICS_FILE) == keys_of(LEARNT)
    assert not (alone.out / PROOF_FILE).exists()

    texts = [row.text for row in HELD]
    labels, logits = answer(spec.out, texts, cache=tmp_path / "cache", proved=True)
    _, learnt = answer(spec.out, texts, cache=tmp_path / "cache")
    given = [labels[place] for place in logits.argmax(axis=1)]
    right = np.mean([label == row.label for label, row in zip(given, HELD, strict=True)])
    assert card.metrics["holdout_accuracy"] == pytest.approx(right)
    assert np.abs(logits - learnt).max() > 1e-3
    answer_holdout(spec)
    kept = read_proof_answers(spec.out)
    assert kept is not None
    assert list(kept.given) == given
    with mapped_once():  # as in a job, which has mapped them for the training
        again = job("again", examples=LEARNT, holdout=HELD)
        answer_holdout(again)
    assert read_proof_answers(again.out) == kept


def test_a_row_that_was_learnt_after_its_proof_is_taken_back_exactly(job: Callable[..., JobSpec]) -> None:
    leaving, staying = HELD[::5], [row for place, row in enumerate(HELD) if place % 5]
    first = job("first", examples=LEARNT, holdout=HELD)
    assert sums_hold(first.out, keys_of(leaving))
    erased = job("erased", erase=[*leaving, *LEARNT[:4]], previous=first.out, holdout=staying)
    never = job("never", examples=LEARNT[4:], holdout=staying)
    assert read_card(erased.out).data["rows_removed"] == len(leaving) + 4
    assert not sums_hold(erased.out, keys_of(leaving))
    assert sums_hold(erased.out, keys_of(staying))
    for read in (read_head, read_proved_head):
        one, two = read(erased.out), read(never.out)
        np.testing.assert_allclose(one.weight, two.weight, rtol=0, atol=1e-5 * np.abs(two.weight).max())


def test_the_next_version_is_proved_without_them_again(job: Callable[..., JobSpec]) -> None:
    first = job("first", examples=LEARNT, holdout=HELD)
    fresh = make_rows("fees", 30, 2)
    second = job("second", examples=fresh, previous=first.out, holdout=HELD)
    joint = job("joint", examples=[*LEARNT, *fresh], holdout=HELD)
    for read in (read_head, read_proved_head):
        one, two = read(second.out), read(joint.out)
        np.testing.assert_allclose(one.weight, two.weight, rtol=0, atol=1e-4 * np.abs(two.weight).max())


def test_held_out_rows_of_a_class_that_is_not_there_are_left_out(job: Callable[..., JobSpec]) -> None:
    spec = job("first", examples=LEARNT, holdout=[*HELD, *make_rows("fees", 5, 3)])
    assert read_card(spec.out).labels == ("card", "loan", "trip")
    assert read_card(spec.out).data["rows_after_proof"] == len(HELD)


def test_a_model_of_an_earlier_release_answers_as_it_was_proved(job: Callable[..., JobSpec], tmp_path: Path) -> None:
    spec = job("first", examples=LEARNT, holdout=HELD)
    older = tmp_path / "older"
    shutil.copytree(spec.out, older)
    (older / PROOF_FILE).unlink()
    assert (older / HEAD_FILE).is_file()
    np.testing.assert_array_equal(read_proved_head(older).weight, read_head(older).weight)
    assert not sums_hold(older, keys_of(HELD))
