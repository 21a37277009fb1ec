"""Accounts on the command line: made, changed, given tokens and taken out, each first as a dry run."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perennial.continual.errors import DataError, NotFound
from perennial.ops.cli.main import app
from perennial.ops.ledger import Ledger
from perennial.ops.settings import load_settings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "perennial.toml"
    path.write_text('state = "state"\nrepository = "repository"\n')
    with Ledger.open(load_settings(path).ledger_address) as ledger:
        ledger.register_model("intent", {})
    return path


def cli(config: Path, *arguments: str, sent: str = "") -> Any:
    done = CliRunner().invoke(app, ["account", *arguments, "--config", str(config)], input=sent)
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def test_an_account_goes_through_its_life(config: Path) -> None:
    words = ("set", "Ann@example.org", "--role", "viewer", "--role", "intent=operator")
    assert cli(config, *words, "--dry-run")["roles"] == {"*": "viewer", "intent": "operator"}
    assert cli(config, "list", "--json") == []
    made = cli(config, *words, "--password", sent="a password of a test\n")
    assert (made["name"], made["password"]) == ("ann@example.org", True)
    assert cli(config, "set", "ann@example.org", "--block")["blocked"]
    assert not cli(config, "set", "ann@example.org", "--unblock", "--role", "admin")["blocked"]
    assert cli(config, "list", "--json")[0]["roles"] == {"*": "admin"}
    assert "token" not in cli(config, "token", "ann@example.org", "--dry-run")
    token = cli(config, "token", "ann@example.org", "--label", "laptop", "--days", "7")
    number = str(token["number"])
    for dry in (["--dry-run"], []):
        assert cli(config, "revoke", "ann@example.org", number, *dry)["revoked"] == token["number"]
    with pytest.raises(NotFound, match="no token"):
        cli(config, "revoke", "ann@example.org", number, "--dry-run")
    for dry in (["--dry-run"], []):
        removed = cli(config, "remove", "ann@example.org", *dry)
        assert (removed["removed"]["name"], removed["removed"]["tokens"]) == ("ann@example.org", [])
    assert cli(config, "list", "--json") == []


@pytest.mark.parametrize(
    ("words", "sent", "told"),
    [
        (["set", "operator"], "", "cannot name an account"),
        (["set", "ann", "--role", "king"], "", "is no role; give one of viewer, labeller, operator, admin"),
        (["set", "ann", "--role", "nowhere=viewer"], "", r"is not known; give \* for all, or one of intent"),
        (["set", "ann", "--password"], "short\n", "has 5 characters; give 12 to 200"),
    ],
)
def test_what_cannot_be_an_account_is_told(config: Path, words: list[str], sent: str, told: str) -> None:
    for dry in ([], ["--dry-run"]):
        with pytest.raises(DataError, match=told):
            cli(config, *words, *dry, sent=sent)
    assert cli(config, "list", "--json") == []
