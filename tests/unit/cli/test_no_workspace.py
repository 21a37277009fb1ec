"""Commands in a folder that is no workspace say so, and leave nothing there."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, NotFound
from perennial.continual.records import Route
from perennial.ops.app.wiring import open_parts
from perennial.ops.cli.main import app
from perennial.ops.settings import Settings
from perennial.ops.store.workspace import Workspace


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(command: str) -> BaseException | None:
    return CliRunner().invoke(app, command.split()).exception


@pytest.mark.parametrize(
    "command",
    [
        "rollout show",
        "rollout abort",
        "model list",
        "model promote 9",
        "model promote 9 --dry-run",
        "model rollback",
        "status",
        "audit show",
        "schedule list",
        "policy show",
        "retrain",
        "engine list",
        "replay show",
        "drift explain",
        "erase --key ann",
    ],
)
def test_a_command_without_a_workspace_is_refused_and_makes_none(empty, command):
    error = _run(command)
    assert isinstance(error, ConfigurationError), error
    assert str(empty) in str(error)
    assert "run `perennial init NAME --data FILE`, or give --config" in str(error)
    assert list(empty.iterdir()) == []


def test_a_settings_file_or_a_ledger_is_a_workspace(empty):
    (empty / "perennial.toml").touch()
    assert _run("status") is None
    (empty / "perennial.toml").unlink()
    assert (empty / "var" / "ledger.db").is_file()
    assert _run("status") is None


def test_a_ledger_named_by_the_environment_is_a_workspace(empty, monkeypatch):
    monkeypatch.setenv("PERENNIAL_LEDGER_URL", f"sqlite:///{empty / 'elsewhere.db'}")
    assert _run("status") is None


def test_a_service_may_begin_a_workspace(empty):
    open_parts(None, may_be_new=True).close()
    assert (empty / "var" / "ledger.db").is_file()


@pytest.mark.parametrize("command", ["model promote 9", "model promote 9 --dry-run", "model rollback"])
def test_a_model_without_a_version_names_the_next_step(empty, command):
    (empty / "perennial.toml").write_text("[models.sales]\n")
    error = _run(command)
    assert isinstance(error, NotFound), error
    assert "serves no version yet; train the first" in str(error)
    assert "perennial init sales --data FILE" in str(error)


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"]])
@pytest.mark.parametrize("lost", [True, False], ids=["lost", "new"])
def test_status_tells_a_lost_ledger_from_a_new_one(empty, arguments, lost):
    (empty / "perennial.toml").write_text("[models.intent]\n[triton]\nurl = '127.0.0.1:1'\n")
    if lost:
        Workspace(Settings()).write_route(Route(model="intent", epoch=3, champion=2, resident=(2,)))
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert ("perennial ledger rebuild" in done.stderr) == lost
