"""A making of a version that is killed after any of its steps goes on when it is started again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from perennial.continual.errors import Refused
from perennial.continual.learning.sums import load_keys
from perennial.continual.learning.trained import STATISTICS_FILE
from perennial.continual.preparation import row_hash
from perennial.continual.records import Example, Split
from perennial.exporters.bundle import EngineKind, Precision, verify_bundle
from perennial.ops.app.wiring import open_parts
from perennial.ops.commands.correction import Correction
from perennial.ops.commands.engines import export_version, plan_export
from perennial.ops.commands.first_version import first_version
from perennial.ops.cycle.corrections import is_correction
from perennial.ops.ledger import Ledger, VersionState
from perennial.ops.making.rows import ModelRows
from perennial.ops.making.version_maker import VersionMaker
from perennial.ops.parts import Parts
from perennial.ops.serving.processes import free_port
from perennial.ops.views.model_report import model_report
from tests.component.exporters.conftest import WORDS, write_encoder

pytestmark = pytest.mark.component

_TOML = """
state = "state"
repository = "model_repository"
[triton]
grpc_port = {grpc}
http_port = {http}
metrics_port = {metrics}
[models.intent.learning]
encoder = "{encoder}"
max_length = 16
[models.intent.learning.params]
features = 64
lexical = 64
[models.intent.engine]
engine = "openvino"
precision = "fp32"
parity_rows = 32
"""
AT = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = [
    Example(text=f"{WORDS[i % 56]} {WORDS[i // 56]} {WORDS[(5 * i) % 56]}", label=f"label {i % 3}", at=AT)
    for i in range(300)
]


@dataclass
class Listener:
    """What the jobs told, stage by stage."""

    stages: list[str]

    def take(self, progress: dict[str, Any]) -> None:
        """Note what a job says."""
        self.stages.append(str(progress.get("stage")))

    def exports(self) -> int:
        """How often an export came to its end."""
        return self.stages.count("seal")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """A workspace without a version."""
    folder = tmp_path_factory.mktemp("killed")
    write_encoder(folder / "encoder")
    ports = {name: free_port() for name in ("grpc", "http", "metrics")}  # where nobody answers
    (folder / "perennial.toml").write_text(_TOML.format(encoder=folder / "encoder", **ports), "utf-8")
    opened = open_parts(folder / "perennial.toml")
    yield opened
    opened.close()


def killed(patch: pytest.MonkeyPatch, owner: type, step: str) -> None:
    """Let the process die right after that step, as far as anybody who comes later can tell."""
    work: Callable[..., Any] = getattr(owner, step)

    def die(*given: Any, **named: Any) -> None:
        work(*given, **named)
        raise KeyboardInterrupt

    patch.setattr(owner, step, die)


def test_a_first_version_goes_on_with_its_number_and_makes_nothing_twice(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener([])
    steps = [
        (VersionMaker, "train"),
        (VersionMaker, "export"),
        (VersionMaker, "publish"),
        (Ledger, "mark_learnt"),
        (ModelRows, "remember"),
        (Ledger, "set_version_state"),
    ]
    for owner, step in steps:
        with monkeypatch.context() as patch:
            killed(patch, owner, step)
            with pytest.raises(KeyboardInterrupt):
                first_version(parts.ledger, parts.workspace, "intent", ROWS, listener.take)
        assert parts.ledger.route("intent") is None, step
    made = first_version(parts.ledger, parts.workspace, "intent", ROWS, listener.take)
    assert (made.version, listener.stages.count("done"), listener.exports()) == (1, 1, 1)
    assert [(row.version, row.state) for row in parts.ledger.versions("intent")] == [(1, VersionState.CHAMPION)]
    assert parts.ledger.examples("intent", split=Split.TRAIN, not_learnt_by=1) == ()
    assert verify_bundle(made.bundle).version == 1
    report = model_report(parts.ledger, parts.workspace, "intent", 1)
    held = parts.ledger.examples("intent", split=Split.HOLDOUT)
    assert report.answers is not None
    assert report.answers.rows == len(held) == report.findings.held_out
    assert [each.name for each in report.baselines] == ["majority", "tf-idf"]
    assert list(parts.repository.staging.iterdir()) == []
    with pytest.raises(Refused, match="serves version 1 already"):
        first_version(parts.ledger, parts.workspace, "intent", ROWS, listener.take)


def test_an_export_to_another_engine_goes_on_with_its_number(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener([])
    plan = plan_export(parts, "intent", 1, "onnxruntime", "fp32")
    assert (plan.engine, plan.precision) == (EngineKind.ONNXRUNTIME, Precision.FP32)
    for _ in range(2):
        with monkeypatch.context() as patch:
            killed(patch, VersionMaker, "publish")
            with pytest.raises(KeyboardInterrupt):
                export_version(parts, plan, actor="ann", on_progress=listener.take)
    made = export_version(parts, plan, actor="ann", on_progress=listener.take)
    assert made.made is not None
    row = parts.ledger.version("intent", made.made)
    assert (row.state, row.parent, listener.exports()) == (VersionState.PUBLISHED, 1, 1)
    assert [v.version for v in parts.ledger.versions("intent")] == [1, made.made]
    learnt = parts.ledger.examples("intent", not_learnt_by=1)
    assert parts.ledger.examples("intent", not_learnt_by=made.made) == learnt
    assert [entry.action for entry in parts.ledger.audit_entries("intent")].count("engine.exported") == 1
    assert list(parts.repository.staging.iterdir()) == []


def test_a_correction_goes_on_with_its_number_for_the_same_rows_alone(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another person's rows are still in the sums of a correction that was killed before it answered."""
    if parts.ledger.route("intent") is None:
        first_version(parts.ledger, parts.workspace, "intent", ROWS)
    listener, route = Listener([]), parts.ledger.route("intent")
    assert route is not None
    learnt = [row.example for row in parts.ledger.examples("intent", split=Split.TRAIN)]
    hers, his = tuple(learnt[:2]), tuple(learnt[2:4])
    for _ in range(2):
        with monkeypatch.context() as patch:
            killed(patch, VersionMaker, "publish")
            with pytest.raises(KeyboardInterrupt):
                Correction(parts, "intent", hers, listener.take).run(route)
    unfinished = max(row.version for row in parts.ledger.versions("intent"))
    assert listener.exports() == 1
    answers, taken = Correction(parts, "intent", his, listener.take).run(route)
    assert taken == 2
    assert not {row_hash(row.text) for row in his} & load_keys(
        parts.workspace.bundle("intent", answers) / STATISTICS_FILE
    )
    assert answers > unfinished
    changed = parts.ledger.route("intent")
    assert changed is not None
    assert (changed.champion, changed.previous) == (answers, route.previous), "a rollback leads where it led"
    assert is_correction(parts.ledger, "intent", answers, of=route.champion)
    assert not is_correction(parts.ledger, "intent", route.champion, of=answers)
