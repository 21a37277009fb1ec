"""A version made smaller: which rows teach, which point of the table is published, and what becomes of the others."""

import json
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, ExportFailed, ParityFailed, Refused
from perennial.continual.jobs.process import JobResult
from perennial.continual.learning.compression import CompressionSpec
from perennial.continual.learning.rows import read_rows
from perennial.continual.records import Example, PromotionDecision, Split
from perennial.exporters.bundle import EngineKind, Precision
from perennial.exporters.timing import BESIDE, MEASURED, NEW
from perennial.ops.cli.main import app
from perennial.ops.commands import compression
from perennial.ops.commands.compression import CompressionPlan, compress_version
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.making.challenger import ChallengerMaker
from perennial.ops.making.smaller import kept_compression
from perennial.ops.parts import Parts
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.settings import ModelSettings, Settings
from perennial.ops.store.tainted import taint
from perennial.ops.store.workspace import Workspace

PLAN = CompressionPlan(
    model="intent",
    source=1,
    engine="onnxruntime",
    precision="int8",
    steps=(),
    most_lost_points=10.0,
    training_rows=4,
    held_out_rows=10,
)
FASTER = {"refused": 4.0, "good": 2.0, "slow": 0.5, "lossy": 9.0}  # times as fast as the source
LOST = {"lossy": 5}  # of ten rows
AT = datetime(2026, 1, 1, tzinfo=UTC)


def rows(name: str, count: int) -> list[Example]:
    return [Example(text=f"{name} {n}", label="ab"[n % 2], at=AT) for n in range(count)]


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """Version 1 has learnt four rows; three came since, and ten are held out."""
    settings = Settings(state=tmp_path, repository=tmp_path / "repository", models={"intent": ModelSettings()})
    workspace = Workspace(settings)
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.register_model("intent", {})
        ledger.add_examples("intent", rows("learnt", 4), lambda _: Split.TRAIN)
        card = version_card(labels=("a", "b"), encoder_fingerprint="sha256:source")
        ledger.add_version(VersionRow(model="intent", version=1, state=VersionState.CHAMPION, card=card))
        ledger.mark_learnt("intent", [stored.id for stored in ledger.examples("intent")], 1)
        ledger.add_examples("intent", rows("new", 3), lambda _: Split.TRAIN)
        ledger.add_examples("intent", rows("held out", 10), lambda _: Split.HOLDOUT)
        workspace.bundle("intent", 1).mkdir(parents=True)
        repository = ModelRepository(workspace.repository)
        held = SimpleNamespace(settings=settings, workspace=workspace, ledger=ledger, repository=repository)
        yield cast("Parts", held)


@pytest.fixture(autouse=True)
def _engines(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that are known by their names: nothing is trained, compiled or asked."""

    def manifest(folder: Path) -> Any:
        rate = FASTER.get(named(folder))
        options = {} if rate is None else {MEASURED: json.dumps({NEW: {"1": rate}, BESIDE: {"1": 1.0}})}
        return SimpleNamespace(
            engine=EngineKind.OPENVINO,
            precision=Precision.FP32,
            options=options,
            engine_file="model.onnx",
            files={"model.onnx": SimpleNamespace(size_bytes=2**20)},
            lineage=SimpleNamespace(learner="finetune"),
            encoder_fingerprint="sha256:small",
            parity={},
        )

    def compiled(maker: ChallengerMaker, version: int, order: Any, *_: object) -> Path:
        if order.trained.name == "unlike":
            raise ParityFailed("it answers otherwise")
        if order.trained.name == "broken":
            raise ExportFailed("the process ended")
        staged = maker.staged(version)
        staged.mkdir(parents=True)
        (staged / "name").write_text(order.trained.name, encoding="utf-8")
        return staged

    def judged(maker: ChallengerMaker, version: int, source: VersionRow, **_: object) -> PromotionDecision:
        reasons = ("it forgets",) if named(maker.staged(version)) == "refused" else ()
        return PromotionDecision(
            champion=source.version, challenger=version, accepted=not reasons, reasons=reasons, figures={}
        )

    def right(_: object, bundle: Path) -> list[bool]:
        lost = LOST.get(named(bundle), 0)
        return [False] * lost + [True] * (10 - lost)

    def publish(maker: ChallengerMaker, version: int) -> None:
        shutil.move(maker.staged(version), parts.workspace.bundle("intent", version))

    for name, stub in (("compile", compiled), ("judge_smaller", judged), ("publish", publish)):
        monkeypatch.setattr(ChallengerMaker, name, stub)
    monkeypatch.setattr("perennial.ops.commands.compression._Compressing._right", right)
    monkeypatch.setattr(compression, "read_manifest", manifest)
    monkeypatch.setattr(compression, "verify_bundle", manifest)


def named(folder: Path) -> str:
    name = folder / "name"
    return name.read_text(encoding="utf-8") if name.is_file() else ""


def steps(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> None:
    made = [(name, Path(name)) for name in names]
    monkeypatch.setattr("perennial.ops.commands.compression._Compressing._models", lambda *_: made)


def states(parts: Parts) -> dict[int, VersionState]:
    return {row.version: row.state for row in parts.ledger.versions("intent") if row.version != 1}


def test_the_fastest_within_the_bound_that_the_gate_accepts_is_published(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(monkeypatch, ["unlike", "refused", "good", "slow", "lossy"])
    made = compress_version(parts, PLAN, actor="test")
    assert kept_compression(parts.workspace, "intent", made.version or 0) == made
    assert kept_compression(parts.workspace, "intent", 1) is None
    assert {point.step: point.verdict for point in made.points} == {
        "as it is": "what the others are compared with",
        "unlike": "refused: it answers otherwise",
        "refused": "refused by the gate: it forgets",
        "good": "within the bound",
        "slow": "within the bound",
        "lossy": "loses more than the bound",
    }
    assert made.chosen == "good"
    assert made.version is not None
    assert sorted(states(parts).values()) == [VersionState.PUBLISHED, VersionState.REFUSED]
    assert states(parts)[made.version] is VersionState.PUBLISHED
    row = parts.ledger.version("intent", made.version)
    assert (row.parent, row.learner, row.encoder_fingerprint) == (1, "finetune", "sha256:small")
    assert parts.repository.versions("intent_engine") == (1, made.version)
    assert not list(parts.repository.staging.iterdir()), "the others are gone"


def test_without_a_point_within_the_bound_the_table_is_all_there_is(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(monkeypatch, ["refused", "slow", "lossy"])
    made = compress_version(parts, PLAN, actor="test")
    assert (made.chosen, made.version, len(made.points)) == (None, None, 4)
    assert list(states(parts).values()) == [VersionState.REFUSED]
    assert not list(parts.repository.staging.iterdir())


def test_an_error_in_the_middle_leaves_nothing(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    steps(monkeypatch, ["good", "broken"])
    with pytest.raises(ExportFailed, match="the process ended"):
        compress_version(parts, PLAN, actor="test")
    assert not list(parts.repository.staging.iterdir())
    assert not states(parts)


def test_what_was_taught_by_rows_that_were_erased_meanwhile_is_not_published(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A champion with a tuned encoder stays until its retraining, and only the note of it tells of the erasure."""
    steps(monkeypatch, ["good"])
    taint(parts.ledger, "intent", ["sha256:source"])
    with pytest.raises(Refused, match="was tuned on rows that were erased since"):
        compress_version(parts, PLAN, actor="test")
    assert list(states(parts).values()) == [VersionState.FAILED]
    assert not list(parts.repository.staging.iterdir())


def test_only_rows_that_the_version_has_learnt_teach(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure finds a smaller model by what its source has learnt."""
    taught: list[str] = []

    def job(_: str, arguments: Sequence[str], **__: object) -> JobResult:
        spec = CompressionSpec.read(Path(arguments[0]))
        taught.extend(row.text for row in read_rows(spec.rows))
        spec.out.mkdir(parents=True)
        (spec.out / "steps.json").write_text("[]", encoding="utf-8")
        return JobResult(exit_code=0, cancelled=False, timed_out=False, tail="")

    monkeypatch.setattr(compression, "run_job", job)
    made = compress_version(parts, PLAN, actor="test")
    assert taught == [f"learnt {n}" for n in range(4)]
    assert [point.step for point in made.points] == ["as it is", "quantised alone"]
    assert not list(parts.workspace.runs("intent").rglob("*.jsonl"))


def test_a_bound_without_a_smaller_model_is_refused() -> None:
    refused = CliRunner().invoke(app, ["export", "1", "--max-loss", "0.3", "--model", "intent"])
    assert isinstance(refused.exception, ConfigurationError)
    assert "--max-loss 0.3 bounds what a smaller model loses, and without --compress none is made" in str(
        refused.exception
    )
