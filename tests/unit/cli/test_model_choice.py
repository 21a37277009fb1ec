"""Which model a command is for, and how a workspace comes to its models."""

import json
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, PerennialError
from perennial.continual.records import Route
from perennial.ops.app.wiring import open_parts
from perennial.ops.cli.main import app
from perennial.ops.ledger import Ledger, VersionRow, VersionState
from perennial.ops.settings import load_settings
from perennial.ops.store.settings_file import add_model, name_from, remove_model
from perennial.ops.store.state import ACCURACY


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def _models_of(path: Path) -> dict[str, Any]:
    sections: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["models"]
    return sections


def _commands(command: Any, name: str = "") -> dict[str, click.Command]:
    if not hasattr(command, "commands"):
        return {name: command}
    return {
        k: v for key, below in command.commands.items() for k, v in _commands(below, f"{name} {key}".strip()).items()
    }


def test_no_command_has_a_default_model() -> None:
    found = _commands(typer.main.get_command(app))
    options = {name: p for name, command in found.items() for p in command.params if "--model" in p.opts}
    assert len(options) > 30
    assert {p.default for p in options.values()} <= {"", None}


def test_the_only_model_is_taken(folder: Path) -> None:
    (folder / "perennial.toml").write_text("[models.sales]\n")
    assert json.loads(_run("model", "list", "--json").stdout) == []
    assert "Versions of sales" in _run("model", "list").stdout


def test_several_models_are_listed_and_none_is_guessed(folder: Path) -> None:
    (folder / "perennial.toml").write_text("[models.sales]\n[models.help]\n[models.intent]\n")
    for words in (["model", "list"], ["predict", "hello"], ["retrain"], ["rollout", "show"], ["policy", "show"]):
        error = _run(*words).exception
        assert isinstance(error, ConfigurationError), (words, error)
        assert error.exit_code == 2
        assert "3 models are configured" in str(error)
        assert "choose sales, help, intent" in str(error)
    assert "Versions of help" in _run("model", "list", "--model", "help").stdout


_BROKEN = "[models.bad.learning]\nholdout_share = 0.9\n"


def test_a_model_with_a_broken_section_is_one_to_choose_from(folder: Path) -> None:
    (folder / "perennial.toml").write_text(f"[models.sales]\n{_BROKEN}")
    assert "2 models are configured" in str(_run("model", "list").exception)
    assert "the settings of model bad cannot be used" in str(_run("retrain", "--model", "bad").exception)


def test_what_needs_no_settings_is_there_for_a_model_with_a_broken_section(folder: Path) -> None:
    """A rollback is wanted most when something is broken."""
    (folder / "perennial.toml").write_text(f"[models.sales]\n{_BROKEN}")
    with Ledger.open(f"sqlite:///{folder / 'var' / 'ledger.db'}") as ledger:
        ledger.register_model("bad", {})
        for version in (1, 2):
            ledger.add_version(VersionRow(model="bad", version=version, state=VersionState.PUBLISHED))
        route = Route(model="bad", epoch=1, champion=2, previous=1, resident=(1, 2))
        ledger.set_route(route, expected_epoch=0, actor="ann", reason="a test")
    assert len(json.loads(_run("model", "list", "--json", "--model", "bad").stdout)) == 2
    assert json.loads(_run("rollout", "show", "--json", "--model", "bad").stdout)["route"]["champion"] == 2
    result = _run("model", "rollback", "--dry-run", "--model", "bad")
    assert json.loads(result.stdout)["then"]["champion"] == 1, result.exception
    rolled = _run("model", "rollback", "--model", "bad")
    assert json.loads(rolled.stdout)["champion"] == 1, rolled.exception


def test_what_cannot_be_read_of_one_model_hides_neither_it_nor_the_others(folder: Path) -> None:
    config = folder / "perennial.toml"
    config.write_text("[models.good]\n[models.odd]\n")
    parts = open_parts(config)
    for name in ("good", "odd"):
        parts.ledger.register_model(name, {})
        parts.ledger.add_version(VersionRow(model=name, version=1, state=VersionState.PUBLISHED))
        route = Route(model=name, epoch=1, champion=1, resident=(1,))
        parts.ledger.set_route(route, expected_epoch=0, actor="ann", reason="a test")
    parts.ledger.put_state("odd", ACCURACY.name, {"nonsense": 1})
    parts.close()
    ended = _run("status", "--json")
    statuses = {model["model"]: model for model in json.loads(ended.stdout)["models"]}
    assert (statuses["good"]["champion"], statuses["good"]["unreadable"]) == (1, [])
    assert (statuses["odd"]["champion"], statuses["odd"]["accuracy"]) == (1, None)
    assert ACCURACY.name in statuses["odd"]["unreadable"][0]


def test_a_config_elsewhere_names_the_model_wherever_the_option_stands(folder: Path) -> None:
    elsewhere = folder / "elsewhere.toml"
    elsewhere.write_text("[models.sales]\n")
    for words in (["-c", str(elsewhere), "--json"], ["--json", "-c", str(elsewhere)]):
        assert json.loads(_run("model", "list", *words).stdout) == []


def test_a_file_without_models_stands_for_those_of_the_ledger(folder: Path) -> None:
    config = folder / "perennial.toml"
    config.write_text("[api]\nport = 8123\n")
    with Ledger.open(load_settings(config).ledger_address) as ledger:
        ledger.register_model("old", {})
    assert "Versions of old" in _run("model", "list").stdout
    assert _run("init", "new").exception is None
    assert set(_models_of(config)) == {"old", "new"}
    assert load_settings(config).api.port == 8123


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["sales"], "sales"),
        (["--model", "sales"], "sales"),
        (["sales", "--data", "Rows of 2026.csv"], "sales"),
        (["--data", "Rows of 2026.csv"], "rows_of_2026"),
    ],
)
def test_init_names_a_model(folder: Path, words: list[str], name: str) -> None:
    (folder / "Rows of 2026.csv").write_text("text,label\na,b\n")
    plan = json.loads(_run("init", *words, "--dry-run").stdout)
    assert (plan["model"], plan["writes"]) == (name, "perennial.toml")
    assert not (folder / "perennial.toml").exists()


def test_init_takes_the_only_model_and_adds_others_beside_it(folder: Path) -> None:
    config = folder / "perennial.toml"
    assert _run("init", "sales").exception is None
    before = config.read_text()
    assert _run("init").exception is None
    assert config.read_text() == before
    assert _run("init", "help").exception is None
    assert config.read_text().startswith(before)
    assert set(load_settings(config).models) == {"sales", "help"}
    error = _run("init").exception
    assert isinstance(error, ConfigurationError)
    assert "names 2 models; say which: sales, help, or a new one" in str(error)
    assert _run("init", "a", "--model", "b").exit_code == 2


def test_init_without_any_name_says_how_to_give_one(folder: Path) -> None:
    error = _run("init").exception
    assert isinstance(error, PerennialError)
    assert error.exit_code == 2
    assert "perennial init NAME --data FILE" in str(error)
    assert list(folder.iterdir()) == []


_ODD = """# mine
seed = 3
[models.sales]   # the first
[models."help-desk".learning]
threads = 1
[models.sales.policy]
kind = "any"  # of them
policies = [
  { kind = "drift" },
]
[[extra.list]]
a = 1
[models.sales2]
"""


def test_a_section_is_taken_out_and_nothing_else(folder: Path) -> None:
    path = folder / "perennial.toml"
    path.write_text(_ODD)
    before = tomllib.loads(_ODD)
    assert remove_model(path, "sales")
    del before["models"]["sales"]
    assert tomllib.loads(path.read_text()) == before
    assert path.read_text().startswith("# mine\nseed = 3\n")
    assert remove_model(path, "help-desk")
    assert set(_models_of(path)) == {"sales2"}
    assert not remove_model(path, "sales")


def test_models_in_one_line_are_left_to_a_person(folder: Path) -> None:
    path = folder / "perennial.toml"
    path.write_text("models = { sales = {}, help = {} }\n")
    with pytest.raises(ConfigurationError, match="add the section by hand"):
        add_model(path, "new")
    with pytest.raises(ConfigurationError, match="remove it by hand"):
        remove_model(path, "help")
    assert path.read_text() == "models = { sales = {}, help = {} }\n"


@pytest.mark.parametrize(
    ("file", "name"), [("a/B c.csv", "b_c"), ("__x__.tsv", "x"), ("große.csv", "gro_e"), ("...", "")]
)
def test_a_name_is_made_of_the_datas_file(file: str, name: str) -> None:
    assert name_from(Path(file)) == name


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["intent", "rows.csv"], "'rows.csv' stands behind the name; write --data rows.csv"),
        (["rows.csv"], "'rows.csv' is a file; write: perennial init NAME --data rows.csv"),
    ],
)
def test_a_file_without_its_option_is_told_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], fix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("text,label\n")
    told = _run("init", *words)
    assert told.exit_code == 2
    assert fix in " ".join(told.output.split())
    assert not Path("perennial.toml").exists()
