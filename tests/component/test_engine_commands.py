"""`perennial export` and `perennial engine`, on a real workspace with a tiny encoder."""

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, NotFound, Refused
from perennial.continual.learning.compression import Step
from perennial.continual.records import PromotionDecision, Route
from perennial.exporters import job
from perennial.exporters.build import hardware_precisions
from perennial.exporters.bundle import Precision, read_manifest
from perennial.exporters.timing import NEW, processor_name
from perennial.exporters.triton_config import engine_config, parse_config
from perennial.ops.app.engine_upkeep import EngineUpkeep
from perennial.ops.app.wiring import engine_spec, open_parts
from perennial.ops.cli.main import app
from perennial.ops.commands import compression, engines
from perennial.ops.commands.engine_choice import taken_meanwhile
from perennial.ops.commands.engines import plan_export, publish_export
from perennial.ops.ledger import VersionRow
from perennial.ops.making import version_maker
from perennial.ops.making.challenger import ChallengerMaker
from perennial.ops.making.version_maker import VersionMaker
from perennial.ops.scheduling import JobFacts
from perennial.ops.store.state import (
    ENGINE_CHOICE,
    PAUSED,
    PROBATION,
    WATCH,
    ChosenEngine,
    Probation,
    StateKey,
    WatchState,
)
from tests.component.exporters.conftest import WORDS, write_encoder
from tests.component.jobs_here import run_here
from tests.e2e.workspace import write_csv

pytestmark = pytest.mark.component

_NOON = "2026-03-01T12:00:00+00:00"
_TOML = """
state = "state"
repository = "model_repository"
[models.intent.learning]
encoder = "{encoder}"
max_length = 16
threads = 2
[models.intent.learning.params]
features = 64
lexical = 64
[models.intent.engine]
engine = "openvino"
precision = "fp32"
parity_rows = 32
limits = {{ int8 = {{ max_abs_logit = 0.0 }} }}
"""


class Workspace:
    """Settings, and the command line run on them in this process."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "perennial.toml"

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr (the error's own text for errors that `main` would print)."""
        result = CliRunner().invoke(app, [*arguments, "--config", str(self.config)], standalone_mode=True)
        code = getattr(result.exception, "exit_code", result.exit_code)
        message = result.stderr if result.exception is None else f"{result.stderr}{result.exception}"
        return code, result.stdout, message

    def answer(self, *arguments: str) -> Any:
        """What the command printed as JSON; it must succeed."""
        code, out, err = self.run(*arguments)
        assert code == 0, err
        return json.loads(out)

    def versions(self) -> list[int]:
        """Version folders on disk."""
        parts = open_parts(self.config)
        try:
            return list(parts.repository.versions("intent_engine"))
        finally:
            parts.close()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A first version (OpenVINO FP32), and version 2: the same as ONNX Runtime FP32."""
    folder = tmp_path_factory.mktemp("engines")
    write_encoder(folder / "encoder")
    (folder / "perennial.toml").write_text(_TOML.format(encoder=folder / "encoder"), "utf-8")
    rows = [(f"{WORDS[i % 56]} {WORDS[i // 56]} {WORDS[(5 * i) % 56]}", f"label {i % 3}") for i in range(500)]
    workspace = Workspace(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        workspace.answer("init", "--data", str(write_csv(folder / "rows.csv", rows)))
        made = workspace.answer("export", "1", "--engine", "onnxruntime", "--precision", "fp32")
    assert made["version"] == 2
    return workspace


@pytest.fixture(autouse=True)
def _in_the_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace.config.parent)


def test_exported_version_is_published_with_its_history_and_not_loaded(workspace: Workspace) -> None:
    parts = open_parts(workspace.config)
    try:
        row, first = parts.ledger.version("intent", 2), parts.ledger.version("intent", 1)
        assert (row.state.value, row.parent, row.labels) == ("published", 1, first.labels)
        assert row.lineage["reason"] == "version 1 as onnxruntime fp32"
        assert row.lineage["last_example_id"] == first.lineage["last_example_id"]
        route = parts.ledger.route("intent")
        assert route is not None
        assert (route.champion, route.resident) == (1, (1,))
        assert parts.ledger.examples("intent", not_learnt_by=2) == parts.ledger.examples("intent", not_learnt_by=1)
        assert [entry.action for entry in parts.ledger.audit_entries("intent")][-1] == "engine.exported"
    finally:
        parts.close()


def test_list_tells_the_engine_of_each_version_and_what_can_be_built(workspace: Workspace) -> None:
    engines = workspace.answer("engine", "list", "--json")
    assert [(row["version"], row["engine"]) for row in engines["versions"]] == [(1, "openvino"), (2, "onnxruntime")]
    assert all(row["agreement"] == 1.0 for row in engines["versions"])
    here = {row["engine"]: row for row in engines["buildable"]}
    assert here["onnxruntime"]["precisions"] == ["fp32", "int8"]
    assert here["tensorrt"]["precisions"] == []
    assert "GPU" in here["tensorrt"]["why"]
    assert "onnxruntime" in workspace.run("engine", "list")[1]


def test_verify_opens_the_engine_and_asks_it(workspace: Workspace) -> None:
    verified = workspace.answer("engine", "verify", "2", "--parity")
    assert verified["golden_difference"] < 1e-3
    assert verified["parity"]["accepted"] is True
    assert verified["parity"]["rows"] == 32


def test_verify_refuses_an_altered_bundle(workspace: Workspace) -> None:
    bundle = workspace.config.parent / "model_repository" / "intent_engine"
    shutil.copytree(bundle / "2", bundle / "77")
    try:
        with (bundle / "77" / "model.onnx").open("r+b") as file:
            file.seek(5000)
            file.write(b"\x00\x01\x02\x03")
        code, _, message = workspace.run("engine", "verify", "77")
    finally:
        shutil.rmtree(bundle / "77")
    assert (code, "model.onnx is altered" in message) == (4, True)


def test_compare_puts_versions_side_by_side(workspace: Workspace) -> None:
    rows = workspace.answer("engine", "compare", "1", "2", "--rounds", "1", "--json")
    assert [row["version"] for row in rows] == [1, 2]
    assert rows[1]["agreement"] == 1.0
    assert rows[1]["max_abs_logit"] < 1e-3
    assert all(row["rows_per_s"] > 0 and row["p50_ms_batch1"] > 0 for row in rows)
    assert rows[0]["accuracy"] == rows[1]["accuracy"]


def test_dry_run_builds_nothing(workspace: Workspace) -> None:
    plan = workspace.answer("export", "1", "--engine", "onnxruntime", "--precision", "int8", "--dry-run")
    assert (plan["engine"], plan["precision"], plan["parity_rows"]) == ("onnxruntime", "int8", 32)
    assert workspace.versions() == [1, 2]


def test_engine_refused_by_the_gate_publishes_nothing(workspace: Workspace) -> None:
    code, _, message = workspace.run("export", "1", "--engine", "onnxruntime", "--precision", "int8")
    assert code == 4, message
    assert "max_abs_logit" in message
    assert workspace.versions() == [1, 2]
    assert list((workspace.config.parent / "model_repository" / ".staging").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("export", "1", "--engine", "openvino", "--precision", "fp32"), 2, "is openvino fp32 already"),
        (("export", "1", "--engine", "onnxruntime", "--precision", "bf16"), 2, "does not come in bf16"),
        (("export", "1", "--engine", "abacus"), 2, "abacus"),
        (("export", "9"), 1, "on disk are [1, 2]"),
        (("engine", "verify", "9"), 1, "on disk are [1, 2]"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_exit_code(
    workspace: Workspace, arguments: tuple[str, ...], code: int, words: str
) -> None:
    seen, _, message = workspace.run(*arguments)
    assert seen == code, message
    assert words in message
    assert workspace.versions() == [1, 2]


@pytest.mark.parametrize(("engine", "code"), [("tensorrt", 3), ("aotinductor", 2)])
def test_what_only_a_gpu_computes_is_refused_at_once_without_one(workspace: Workspace, engine: str, code: int) -> None:
    import torch

    assert not torch.cuda.is_available(), "this test is about a machine without a GPU"
    seen, _, message = workspace.run("export", "1", "--engine", engine, "--precision", "fp16")
    assert seen == code
    assert "NVIDIA GPU" in message
    assert message.strip().count("\n") == 0


def test_native_backend_needs_a_server_that_has_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERENNIAL_TRITON__ENGINE_BACKEND", "tensorrt")
    parts = open_parts(workspace.config)
    with pytest.raises(ConfigurationError, match=r"set triton\.url"):
        engine_spec(parts, "intent")
    parts.close()
    monkeypatch.setenv("PERENNIAL_TRITON__URL", "triton.example:8001")
    parts = open_parts(workspace.config)
    try:
        config = parse_config(engine_config(engine_spec(parts, "intent")))
    finally:
        parts.close()
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert list(config.instance_group[0].profile) == ["0", "1"]
    assert "cache_dir" not in config.parameters


def test_a_choice_that_the_settings_made_is_not_made_again(workspace: Workspace) -> None:
    code, _, message = workspace.run("engine", "choose", "--dry-run")
    assert code == ConfigurationError.exit_code
    assert "set both to auto" in message


def test_an_engine_is_chosen_by_its_speed_beside_the_champions(workspace: Workspace) -> None:
    folder = workspace.config.parent
    settings = workspace.config.read_text("utf-8")
    for told in ('engine = "openvino"\n', 'precision = "fp32"\n', "limits = { int8 = { max_abs_logit = 0.0 } }\n"):
        assert told in settings
        settings = settings.replace(told, "")
    free = Workspace(folder)
    free.config = folder / "free.toml"
    free.config.write_text(settings, "utf-8")
    before = free.versions()
    would = free.answer("engine", "choose", "--dry-run")["would_try"]
    assert would[0] == "onnxruntime int8"
    assert free.versions() == before
    choice = free.answer("engine", "choose")
    assert [f"{tried['engine']} {tried['precision']}" for tried in choice["tried"]] == would[: len(choice["tried"])]
    for tried in choice["tried"]:
        assert set(tried["rows_per_s"]) == set(tried["champion_rows_per_s"]) == {"1", "8", "32"} or tried["why_not"]
    *others, last = choice["tried"]
    assert all(tried["why_not"] for tried in others)
    listed = {row["version"]: row["rows_per_s"] for row in free.answer("engine", "list", "--json")["versions"]}
    if last["why_not"]:
        assert (choice["version"], free.versions()) == (None, before)
    else:
        assert last["times_faster"] >= 1.1
        assert free.versions() == [*before, choice["version"]]
        assert listed[choice["version"]] == last["rows_per_s"]
    assert listed[1] is None
    _chosen_once(free.config)


def _chosen_once(config: Path) -> None:
    """The loop does not choose while processors are busy or a champion is new, and never again what was chosen."""
    settings = config.read_text("utf-8")

    def look(after_s: float, *, idle: float = 1.0) -> str:
        config.write_text(settings.replace("parity_rows", f"choose_after_s = {after_s}\nparity_rows"), "utf-8")
        parts = open_parts(config)
        try:
            return EngineUpkeep(parts, "intent", threading.Event(), idle=lambda: idle).look()
        except NotFound:  # no server ever ran here that could take the new version
            return "published"
        finally:
            parts.close()

    def kept() -> tuple[ChosenEngine | None, list[int]]:
        parts = open_parts(config)
        try:
            return ENGINE_CHOICE.read(parts.ledger, "intent"), list(parts.repository.versions("intent_engine"))
        finally:
            parts.close()

    assert (look(0.0), look(3_600.0), look(1e-6, idle=0.1)) == ("", "", "")
    assert kept()[0] is None
    _waits(config, lambda: look(1e-6))
    assert kept()[0] is None
    told = look(1e-6)
    chosen, versions = kept()
    assert chosen is not None
    assert (chosen.champion, chosen.processor) == (1, processor_name())
    assert told.startswith("no faster engine") is (chosen.version is None)
    assert look(1e-6) == ""
    assert kept() == (chosen, versions)


def _waits(config: Path, look: Callable[[], str]) -> None:
    """A champion that is in question is not replaced, nor one that is champion no more, and a long choice is sound."""
    probation = Probation(cycle=1, champion=1, previous=0, since=_NOON, until=_NOON)
    drifts = WatchState(version=1, reference_ready=True, monitor={"version": 1, "level": "cooldown"})
    questions: tuple[tuple[StateKey[Any], Any], ...] = ((PAUSED, True), (PROBATION, probation), (WATCH, drifts))
    parts = open_parts(config)
    try:
        for key, record in questions:
            before = key.read(parts.ledger, "intent")
            key.keep(parts.ledger, "intent", record)
            assert look() == "", key.name
            key.keep(parts.ledger, "intent", before)
        assert taken_meanwhile(parts, "intent", 1) == ""
        assert taken_meanwhile(parts, "intent", 2) == "version 2 is champion no more"
        upkeep, limit_s = EngineUpkeep(parts, "intent", threading.Event()), 1_800.0
        assert not JobFacts(interval_s=upkeep.every_s, since=0.0).silent(now=2 * limit_s + 600.0)
    finally:
        parts.close()


def test_a_version_with_noise_becomes_no_engine_whose_ranges_rows_give(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "noise_of", lambda _: {"epsilon": 8.0})
    parts = open_parts(workspace.config)
    try:
        with pytest.raises(Refused, match="version 1 of intent was learnt with noise, and int8 takes its ranges"):
            plan_export(parts, "intent", 1, "onnxruntime", "int8")
        assert plan_export(parts, "intent", 1, "onnxruntime", "fp32").rows
    finally:
        parts.close()


def test_what_is_erased_while_an_engine_is_built_is_not_published_with_it(workspace: Workspace) -> None:
    parts = open_parts(workspace.config)
    maker = VersionMaker(parts.ledger, parts.workspace, "intent")
    plan = plan_export(parts, "intent", 1, "onnxruntime", "fp32")
    before = parts.ledger.versions("intent")

    def refused(source: int) -> None:
        number = parts.ledger.next_version("intent")
        shutil.copytree(parts.workspace.bundle("intent", 2), maker.staged(number))
        with pytest.raises(Refused, match=f"version {source} of intent is being erased from, or was removed"):
            publish_export(
                parts, maker, replace(plan, source=source), number, read_manifest(maker.staged(number)), actor="test"
            )
        assert not maker.staged(number).exists()
        assert parts.ledger.versions("intent") == before

    try:
        token, _ = parts.ledger.begin_erasure("intent", "somebody")
        refused(1)
        parts.ledger.end_erasure("intent", token)
        refused(77)  # an erasure that has ended removed it
    finally:
        parts.close()


def test_a_model_without_held_out_rows_has_no_choice_and_no_error(tmp_path: Path) -> None:
    config = tmp_path / "perennial.toml"
    folders = f'state = "{tmp_path}/state"\nrepository = "{tmp_path}/models"\n'
    config.write_text(f"{folders}[models.intent.engine]\nchoose_after_s = 1e-6\n", "utf-8")
    parts = open_parts(config)
    try:
        parts.ledger.register_model("intent", {})
        parts.ledger.add_version(VersionRow(model="intent", version=1))
        first = Route(model="intent", champion=1, resident=(1,), epoch=1)
        parts.ledger.set_route(first, expected_epoch=0, actor="test", reason="a start")
        assert EngineUpkeep(parts, "intent", threading.Event(), idle=lambda: 1.0).look() == ""
    finally:
        parts.close()


def test_a_version_is_made_smaller_by_a_table_of_steps_and_published(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "usual_steps", lambda *_: (Step(name="1 layer", layers=1),))
    for jobs in (compression, version_maker):
        monkeypatch.setattr(jobs, "run_job", run_here)
    monkeypatch.setattr(job, "rows_per_s", lambda engines, _: {name: {"1": 1.0 + (name == NEW)} for name in engines})
    judge = ChallengerMaker.judge_smaller

    def accepted(*given: Any, **told: Any) -> PromotionDecision:  # the rows have no pattern: what it says is chance
        return replace(judge(*given, **told), accepted=True, reasons=())

    monkeypatch.setattr(ChallengerMaker, "judge_smaller", accepted)
    before = workspace.versions()
    wanted = ("export", "2", "--compress", "--engine", "onnxruntime", "--precision", "fp32", "--max-loss", "100")
    plan = workspace.answer(*wanted, "--dry-run")
    assert (plan["source"], plan["engine"], plan["steps"][0]["layers"]) == (2, "onnxruntime", 1)
    assert workspace.versions() == before
    made = workspace.answer(*wanted)
    as_it_is, alone, smaller = made["points"]
    assert (alone["verdict"], made["chosen"]) == ("the source is one already", "1 layer")
    assert smaller["megabytes"] < as_it_is["megabytes"]
    assert smaller["lost_points"]["mean"] == pytest.approx(100 * (as_it_is["accuracy"] - smaller["accuracy"]))
    assert workspace.versions() == [*before, made["version"]], "the others are gone"
    parts = open_parts(workspace.config)
    try:
        row = parts.ledger.version("intent", made["version"])
        assert (row.state.value, row.parent, row.learner) == ("published", 2, "finetune")
        assert row.lineage["reason"] == "version 2 (1 layer) as onnxruntime fp32"
        assert not list(parts.workspace.runs("intent").glob("*/compressed"))
    finally:
        parts.close()


@pytest.mark.parametrize(
    ("wanted", "why"), [(("99",), "has no bundle of version 99"), (("1", "--engine", "nothing"), "'nothing'")]
)
def test_what_cannot_be_made_smaller_is_refused_before_anything_is_done(
    workspace: Workspace, wanted: tuple[str, ...], why: str
) -> None:
    code, _, said = workspace.run("export", *wanted, "--compress")
    assert code != 0
    assert why in said


def test_a_package_for_this_processor_is_compiled_and_proved_like_any_engine(workspace: Workspace) -> None:
    made = workspace.answer("export", "1", "--engine", "aotinductor", "--precision", "fp32")
    verified = workspace.answer("engine", "verify", str(made["version"]), "--parity")
    assert (verified["engine"], verified["parity"]["accepted"]) == ("aotinductor", True)
    free = Workspace(workspace.config.parent)
    free.config = free.config.with_name("free.toml")
    free.config.write_text(
        workspace.config.read_text("utf-8").replace('engine = "openvino"\nprecision = "fp32"\n', ""), "utf-8"
    )
    here = "bf16" if Precision.BF16 in hardware_precisions() else "fp32"
    usual, asked = (free.answer("engine", "choose", *more, "--dry-run")["would_try"] for more in ((), ("--compiled",)))
    assert asked == [*usual, f"aotinductor {here}"]
    before = free.versions()
    code, _, said = free.run("engine", "choose", "--promote")
    assert code == NotFound.exit_code
    assert "start `perennial serve` first" in said
    assert free.versions() == before, "nothing was built that nobody could take"
