"""A command's session with a workspace: closed whatever happens, and one spelling of each option they share."""

from pathlib import Path

import pytest

from perennial.continual.errors import NotFound
from perennial.ops.cli.session import model_session, session

CLI = Path(__file__).parents[3] / "ops" / "cli"


def _config(folder: Path) -> Path:
    config = folder / "perennial.toml"
    config.write_text(f"state = '{folder / 'var'}'\n[models.intent]\n[models.mail]\n")
    return config


def _open(folder: Path) -> bool:
    """Whether somebody has the ledger open: SQLite removes this file when the last connection is closed."""
    return (folder / "var" / "ledger.db-wal").exists()


def _fail(config: Path) -> None:
    with session(config) as parts:
        assert _open(config.parent)
        parts.ledger.version("intent", 7)


def test_a_session_is_closed_when_its_command_fails(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="intent has no version 7"):
        _fail(_config(tmp_path))
    assert not _open(tmp_path)


def test_a_session_about_a_model_that_the_settings_do_not_name_is_refused_and_closed(tmp_path: Path) -> None:
    with model_session(_config(tmp_path), "mail") as (parts, model):
        assert model == "mail"
        assert set(parts.settings.models) == {"intent", "mail"}
    with pytest.raises(NotFound, match="they name intent, mail"), model_session(_config(tmp_path), "post"):
        pytest.fail("the session began")
    assert not _open(tmp_path)


@pytest.mark.parametrize(
    ("spelling", "home"),
    [
        ("open_parts(", "session.py"),
        ('"--config"', "console.py"),
        ('"--dry-run"', "console.py"),
        ('"--json"', "console.py"),
    ],
)
def test_what_commands_share_is_written_once(spelling: str, home: str) -> None:
    places = [path.name for path in sorted(CLI.glob("*.py")) for _ in range(path.read_text().count(spelling))]
    assert places == [home]
