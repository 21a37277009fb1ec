"""Which encoder a challenger starts from."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.jobs.process import JobResult
from perennial.continual.learning.card import read_card
from perennial.continual.records import Example, Split
from perennial.ops.ledger import Ledger, StoredExample, VersionRow, VersionState, version_card
from perennial.ops.making import version_maker
from perennial.ops.making.rows import TrainingRows
from perennial.ops.making.starting_point import keep_encoder
from perennial.ops.making.version_maker import VersionMaker
from perennial.ops.settings import LearningSettings, ModelSettings, Settings
from perennial.ops.store.workspace import Workspace
from tests.unit.learning.cards import text_card

CARD = text_card()


@pytest.mark.parametrize(
    ("named", "of_champion", "taken"),
    [
        ("base", "packaged:e5:han", "base"),
        ("auto", "packaged:e5:han", "packaged:e5:han"),
        ("auto", "classifier", "auto"),
        ("auto", None, "auto"),
    ],
)
def test_without_a_name_the_champions_encoder_is_taken_or_the_job_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, of_champion: str | None, taken: str
) -> None:
    """Never the control process: a choice reads tokenizers of a quarter of a million words, and may need torch."""
    learning = LearningSettings(encoder=named, reuse_logged_embeddings=taken == "auto")
    settings = Settings(
        state=tmp_path / "state",
        repository=tmp_path / "repository",
        models={"intent": ModelSettings(learning=learning)},
    )
    workspace = Workspace(settings)
    spec: dict[str, Any] = {}

    def job(module: str, arguments: list[str], **_: Any) -> JobResult:
        spec.update(json.loads(Path(arguments[0]).read_text()))
        CARD.write(Path(spec["out"]))
        return JobResult(exit_code=0, cancelled=False, timed_out=False, tail="")

    monkeypatch.setattr(version_maker, "run_job", job)
    champion = None
    if of_champion is not None:
        workspace.bundle("intent", 1).mkdir(parents=True)
        replace(CARD, encoder=of_champion).write(workspace.bundle("intent", 1))
        champion = VersionRow(model="intent", version=1, state=VersionState.CHAMPION, card=version_card(labels=("a",)))
    with Ledger.open(settings.ledger_address) as ledger:
        ledger.register_model("intent", {})
        row = Example(text="我的银行卡丢了怎么办", label="a", at=datetime(2026, 1, 1, tzinfo=UTC))
        rows = TrainingRows(fresh=(StoredExample(id=1, example=row, split=Split.TRAIN),), replay=(), learnt=(1,))
        VersionMaker(ledger, workspace, "intent").train(2, champion, rows, lambda _: None)
    assert spec["encoder"] == taken


@pytest.mark.parametrize("tuned", [True, False])
def test_challenger_goes_on_from_the_champions_tuned_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuned: bool
) -> None:
    """Its sums belong to that encoder: on another one they would be thrown away."""
    learning = LearningSettings(encoder="base", reuse_logged_embeddings=False)
    settings = Settings(
        state=tmp_path / "state",
        repository=tmp_path / "repository",
        models={"intent": ModelSettings(learning=learning)},
    )
    workspace = Workspace(settings)
    bundle = workspace.bundle("intent", 1)
    (bundle / "encoder").mkdir(parents=True)
    if tuned:
        (bundle / "encoder" / "config.json").write_text("{}")
    spec: dict[str, Any] = {}

    def job(module: str, arguments: list[str], **_: Any) -> JobResult:
        spec.update(json.loads(Path(arguments[0]).read_text()))
        CARD.write(Path(spec["out"]))
        return JobResult(exit_code=0, cancelled=False, timed_out=False, tail="")

    monkeypatch.setattr(version_maker, "run_job", job)
    with Ledger.open(settings.ledger_address) as ledger:
        ledger.register_model("intent", {})
        champion = VersionRow(model="intent", version=1, state=VersionState.CHAMPION, card=version_card(labels=("a",)))
        row = Example(text="text", label="a", at=datetime(2026, 1, 1, tzinfo=UTC))
        rows = TrainingRows(fresh=(StoredExample(id=1, example=row, split=Split.TRAIN),), replay=(), learnt=(1,))
        VersionMaker(ledger, workspace, "intent").train(2, champion, rows, lambda _: None)
    assert spec["encoder"] == (str(bundle / "encoder") if tuned else "base")
    assert spec["previous"] == str(bundle)


def test_a_head_trained_on_a_tuned_encoder_takes_it_along(tmp_path: Path) -> None:
    """Else its bundle would point into an older version's folder, which retention removes."""
    source, trained = tmp_path / "1" / "encoder", tmp_path / "trained"
    source.mkdir(parents=True)
    trained.mkdir()
    (source / "config.json").write_text("{}")
    replace(CARD, encoder=str(source)).write(trained)
    for _ in range(2):
        keep_encoder(trained, str(source))
        assert read_card(trained) == replace(CARD, encoder="encoder")
        assert (trained / "encoder" / "config.json").read_text() == "{}"
    CARD.write(trained)
    keep_encoder(trained, "packaged:minilm")
    assert read_card(trained) == CARD


@pytest.mark.parametrize(("processors", "threads", "engine"), [(1, 2, 1), (2, 2, 1), (4, 2, 2), (4, 1, 1)])
def test_an_engine_is_proved_by_one_thread_where_there_are_two_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int, threads: int, engine: int
) -> None:
    monkeypatch.setattr(version_maker.os, "sched_getaffinity", lambda _: set(range(processors)))
    settings = Settings(
        state=tmp_path / "state", models={"intent": ModelSettings(learning=LearningSettings(threads=threads))}
    )
    with Ledger.open(settings.ledger_address) as ledger:
        assert VersionMaker(ledger, Workspace(settings), "intent").engine_threads == engine
