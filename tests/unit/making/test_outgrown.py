"""A champion whose sums are another closed form's than is due is followed by one that learns every stored row anew."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perennial.continual.learning.card import PRIVACY
from perennial.continual.records import Example, Split
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.making.rows import ModelRows
from perennial.ops.settings import LearningSettings, ModelSettings, Settings
from perennial.ops.store.workspace import Workspace
from tests.component.databases import fresh_url
from tests.unit.learning.cards import text_card

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT_FIRST = 40


def rows(first: int, count: int) -> list[Example]:
    return [
        Example(text=f"my card {n}", label="ab"[n % 2], at=NOON + timedelta(hours=n))
        for n in range(first, first + count)
    ]


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[tuple[Ledger, Workspace, VersionRow]]:
    """A kernel LDA that was chosen at 40 rows."""
    learning = LearningSettings(learner="auto")
    models = {"intent": ModelSettings(learning=learning)}
    workspace = Workspace(Settings(state=tmp_path, repository=tmp_path / "r", models=models))
    with Ledger.open(fresh_url("sqlite", tmp_path)) as ledger:
        ledger.register_model("intent", {})
        ledger.add_examples("intent", rows(0, AT_FIRST), lambda _: Split.TRAIN)
        first = ModelRows(ledger, workspace, "intent").training_rows(None)
        assert first.afresh
        ledger.add_version(
            VersionRow(
                model="intent",
                version=1,
                state=VersionState.CHAMPION,
                card=version_card(labels=("a", "b")),
                lineage={"last_example_id": first.last_example_id},
            )
        )
        ledger.mark_learnt("intent", first.learnt, 1)
        bundle = workspace.bundle("intent", 1)
        bundle.mkdir(parents=True)
        text_card(settings={"chosen_at": AT_FIRST}).write(bundle)
        yield ledger, workspace, ledger.version("intent", 1)


def test_only_once_there_are_twice_the_rows_it_was_chosen_at(begun: tuple[Ledger, Workspace, VersionRow]) -> None:
    ledger, workspace, champion = begun
    own = ModelRows(ledger, workspace, "intent")
    ledger.add_examples("intent", rows(AT_FIRST, 39), lambda _: Split.TRAIN)
    some = own.training_rows(champion)
    assert (some.base, some.afresh, len(some.fresh), len(some.learnt)) == (1, False, 39, 39)
    own.note_taught(2, some)
    ledger.add_examples("intent", rows(AT_FIRST + 39, 1), lambda _: Split.TRAIN)
    every = own.training_rows(champion)
    assert (every.base, every.afresh, len(every.fresh), len(every.learnt)) == (None, True, 80, 80)
    own.note_taught(3, every)
    again = own.taught_rows(2, champion)  # a row that came since changes nothing about what was taught
    assert (again.afresh, [s.id for s in again.fresh]) == (False, [s.id for s in some.fresh])
    assert sorted(again.learnt) == sorted(some.learnt)
    assert own.taught_rows(3, champion).afresh


def test_rows_that_no_training_takes_do_not_count(begun: tuple[Ledger, Workspace, VersionRow]) -> None:
    """Else a version whose sums can't have twice the rows would be made anew in every cycle."""
    ledger, workspace, champion = begun
    own = ModelRows(ledger, workspace, "intent")
    few = [replace(row, label=f"slip {n}") for n, row in enumerate(rows(1000, 60))]
    ledger.add_examples("intent", few, lambda _: Split.TRAIN)
    assert not own.training_rows(champion).afresh
    ledger.add_examples("intent", rows(AT_FIRST, 40), lambda _: Split.TRAIN)
    every = own.training_rows(champion)
    assert (every.afresh, len(every.fresh)) == (True, 80)


def test_with_noise_another_encoder_learns_every_row_and_none_of_a_buffer(
    begun: tuple[Ledger, Workspace, VersionRow],
) -> None:
    ledger, workspace, champion = begun
    text_card(settings={PRIVACY: {}}).write(workspace.bundle("intent", 1))
    ledger.add_examples("intent", rows(AT_FIRST, 3), lambda _: Split.TRAIN)

    def taught(encoder: str) -> tuple[bool, int]:
        learning = {"learner": "kernel_lda", "encoder": encoder, "max_length": 32}
        private = {"learning": learning, "engine": {"precision": "fp32"}, "privacy": {"epsilon": 8.0}}
        models = {"intent": ModelSettings.model_validate(private)}
        own = ModelRows(ledger, Workspace(workspace.settings.model_copy(update={"models": models})), "intent")
        given = own.training_rows(champion)
        return given.afresh, len(given.fresh)

    assert taught("packaged:minilm") == (False, 3)
    assert taught("packaged:other") == (True, AT_FIRST + 3)
