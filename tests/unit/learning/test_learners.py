"""What every learner promises to those who know it by its name alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.card import COMPRESSED
from perennial.continual.learning.context import Context
from perennial.continual.learning.encoder import fingerprint
from perennial.continual.learning.learners import (
    LEARNERS,
    chosen_learner,
    learner_named,
    learner_of_task,
    outgrown,
    sums_hold,
    train_model,
)
from perennial.continual.learning.names import DEFAULT_LEARNER, LEARNERS_OF, LearnerName, default_learner
from perennial.continual.learning.port import Learner
from perennial.continual.learning.spec import JobSpec
from perennial.continual.tasks import TASKS, learns_labels
from tests.unit.learning.cards import text_card
from tests.unit.learning.conftest import make_rows

Write = Callable[..., Path]
SMALL = {
    LearnerName.KERNEL_LDA: {"features": 200},
    LearnerName.RIDGE: {"features": 200, "lexical": 100},
    LearnerName.AUTO: {"features": 200, "lexical": 100},
    LearnerName.FINETUNE: {"strategy": "naive", "epochs": 1},
}


OF_TEXTS = [learner for learner in LEARNERS.values() if learner.task == "text_classification"]


@pytest.fixture(params=OF_TEXTS, ids=[learner.name for learner in OF_TEXTS])
def learner(request: pytest.FixtureRequest) -> Learner:
    found: Learner = request.param
    return found


def test_every_name_has_a_learner_and_one_is_the_default() -> None:
    assert set(LEARNERS) == set(LearnerName)
    assert all(learner_named(name.value) is LEARNERS[name] for name in LearnerName)
    assert DEFAULT_LEARNER in LEARNERS
    with pytest.raises(
        ConfigurationError,
        match=r"'forest' is unknown; use one of auto, finetune, item_gram, kernel_lda, rewriter, ridge",
    ):
        learner_named("forest")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_learners_that_say_so_and_correct_each_other(task: str) -> None:
    names = LEARNERS_OF[task]
    assert set(names) == {
        name
        for name, learner in LEARNERS.items()
        if learner.task == task or (learns_labels(learner.task) and learns_labels(task))
        if task != "image_classification" or not learner.tunes_encoder
    }
    assert names[0] == default_learner(task) == learner_of_task(task).name
    assert {LEARNERS[name].corrector for name in names} <= set(names)
    with pytest.raises(ConfigurationError, match=r"task 'image' has no learner"):
        default_learner("image")


def test_a_described_class_reaches_the_training_and_no_correction(learner: Learner) -> None:
    configured = {"descriptions": {"fee": "Old words."}, "head_settings": {"descriptions": {"fee": "Old words."}}}
    before = repr(configured)
    params = learner.params(configured, {"fee": "What a card costs.", "loan": "Money that is owed."})
    params_kept = params["head_settings" if learner.tunes_encoder else "descriptions"]
    assert (params_kept["descriptions"] if learner.tunes_encoder else params_kept) == {
        "fee": "What a card costs.",
        "loan": "Money that is owed.",
    }
    assert "descriptions" not in learner.correction_params(configured)
    assert "head_settings" not in learner.correction_params(configured) or not learner.tunes_encoder
    assert repr(configured) == before


def test_what_nobody_described_changes_no_params_of_a_fine_tuning() -> None:
    configured = {"epochs": 2}
    assert LEARNERS[LearnerName.FINETUNE].params(configured, {}) == configured


@pytest.mark.parametrize("choice", ["kernel_lda", "ridge", "auto", "naive", "der++"])
def test_the_command_line_names_the_closed_form_or_a_strategy(choice: str) -> None:
    learner, params = chosen_learner(choice, {"seed": 1})
    assert learner.tunes_encoder is (choice not in {"kernel_lda", "ridge", "auto"})
    assert params == {"seed": 1} | ({"strategy": choice} if learner.tunes_encoder else {})


def test_a_strategy_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(ConfigurationError, match=r"forest.*der\+\+"):
        chosen_learner("forest", {})


@pytest.mark.slow
def test_a_version_holds_the_rows_that_it_learnt_until_they_are_taken_out(
    learner: Learner, make_spec: Write, tiny_encoder: Path
) -> None:
    rows, others = make_rows("card loan", 30, 1), make_rows("trip", 5, 2)
    spec = JobSpec.read(
        make_spec("first", learner=learner.name.value, examples=rows, holdout=rows[:10], params=SMALL[learner.name])
    )
    card = train_model(spec, Context())
    assert card.learner == (card.head if learner.name == LearnerName.AUTO else learner.name)
    tuned = card.encoder_fingerprint != fingerprint(tiny_encoder)
    assert tuned is learner.tunes_encoder
    learnt, erased = learner.keys(rows), rows[:3]
    assert sums_hold(spec.out, learnt)
    assert not sums_hold(spec.out, learner.keys(others))
    assert not sums_hold(spec.out.parent, learnt), "a folder without sums holds nobody"
    corrected = JobSpec.read(
        make_spec(
            "second",
            learner=learner.corrector.value,
            encoder=card.encoder_source(spec.out),
            previous=spec.out,
            erase=erased,
            holdout=rows[:10],
            params=learner.correction_params(SMALL[learner.name]),
        )
    )
    assert train_model(corrected, Context()).head == card.head
    assert not sums_hold(corrected.out, learner.keys(erased))
    assert sums_hold(corrected.out, learnt)


@pytest.mark.parametrize(
    ("head", "settings", "learner", "params", "rows", "due"),
    [
        ("kernel_lda", {"chosen_at": 100}, "auto", {}, 199, False),
        ("kernel_lda", {"chosen_at": 100}, "auto", {}, 200, True),
        ("kernel_lda", {"chosen_at": 100}, "auto", {"shrinkage": 1e-4}, 200, False),  # it was told
        ("kernel_lda", {}, "auto", {}, 9000, False),  # of a release that had no other form: it keeps what it has
        ("ridge", {"chosen_at": 100}, "auto", {}, 9000, False),
        ("kernel_lda", {}, "ridge", {}, 1, True),
        ("ridge", {}, "kernel_lda", {}, 1, True),
        ("ridge", {}, "ridge", {}, 9000, False),
        ("ridge", {}, "finetune", {}, 9000, False),
        ("linear", {}, "ridge", {}, 9000, False),
    ],
)
def test_sums_are_made_anew_where_another_closed_form_is_due(
    head: str, settings: dict[str, int], learner: str, params: dict[str, float], rows: int, due: bool
) -> None:
    card = text_card(head, settings=settings)
    assert outgrown(card, learner, params, rows=lambda: rows) is due
    assert not outgrown(replace(card, learner="finetune"), learner, params, rows=lambda: rows)


@pytest.mark.parametrize(
    ("learner", "due"), [("auto", True), ("ridge", True), ("kernel_lda", True), ("finetune", False)]
)
def test_closed_forms_begin_from_all_rows_where_a_model_was_made_smaller(learner: str, due: bool) -> None:
    smaller = replace(text_card("linear", settings={COMPRESSED: True}), learner="finetune")
    assert outgrown(smaller, learner, {}, rows=lambda: 1) is due
