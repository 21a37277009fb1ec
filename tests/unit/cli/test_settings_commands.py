"""What there is to set, what is set, and what somebody meant who mistyped it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, InputError, NotFound
from perennial.ops.cli.main import app
from perennial.ops.cli.prefixes import completed
from perennial.ops.cli.reference import described_api
from perennial.ops.safety.tokens import hashed
from perennial.ops.settings import Settings, load_settings
from perennial.ops.settings.reference import reference_page, setting_lines
from perennial.ops.views.settings_in_force import settings_in_force

PAGE = Path(__file__).resolve().parents[3] / "docs" / "settings.md"
TOKEN = "a-token-that-nobody-guesses"


def run(folder: Path, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*words, "--config", str(folder / "perennial.toml")])
    assert done.exit_code == code, done.output
    return done.stdout


def written(folder: Path, text: str) -> Path:
    (folder / "perennial.toml").write_text(text)
    return folder


def test_the_page_of_settings_is_what_there_is() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference_page(Settings), (
        "run `perennial config docs --out docs/settings.md`"
    )
    assert max(map(len, PAGE.read_text(encoding="utf-8").splitlines())) <= 200
    assert reference_page(Settings) in CliRunner().invoke(app, ["config", "docs"]).stdout


@pytest.mark.parametrize("kind", ["commands", "api"])
def test_the_pages_of_commands_and_of_the_api_are_what_there_is(kind: str) -> None:
    page = PAGE.with_name(f"{kind}.md").read_text(encoding="utf-8")
    printed = CliRunner().invoke(app, ["config", "docs", "--of", kind]).stdout
    assert page == printed, f"run `perennial config docs --of {kind} --out docs/{kind}.md`"
    assert page.count("\n| `") > (80 if kind == "commands" else 55)
    assert [line for line in page.splitlines() if line.startswith("| `") and line.split(" | ")[1].strip() == ""] == []


def test_each_operation_says_in_a_sentence_what_it_does() -> None:
    document, _ = described_api()
    said = {path: {m: o.get("description", "") for m, o in item.items()} for path, item in document["paths"].items()}
    assert {(m, path) for path, item in said.items() for m, told in item.items() if not told.endswith(".")} == set()


def test_every_setting_is_listed_once_with_what_it_may_be() -> None:
    lines = list(setting_lines(Settings))
    names = [line.name for line in lines]
    assert len(names) == len(set(names)) > 100
    kinds = {line.name: line.kind for line in lines}
    assert kinds["triton.grpc_port"] == "whole number (>= 1, <= 65535)"
    assert kinds["triton.secret"] == "secret"
    assert "`onnxruntime`" in kinds["triton.engine_backend"]
    assert "models.NAME.learning.encoder" in names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[triton]\ngrcp_port = 1\n", "triton.grcp_port: Extra inputs are not permitted; did you mean 'grpc_port'?"),
        ("[trito]\nurl = 'x'\n", "did you mean 'triton'?"),
        ("[models.intent.learning]\nencodr = 'x'\n", "models.intent.learning.encodr"),
        ("[models.intent.learning]\nencodr = 'x'\n", "did you mean 'encoder'?"),
        ("[models.intent]\nlerning = 1\n", "did you mean 'learning'?"),
        ("[models.intent.feeds.wire]\nfiel = 'x'\n", "did you mean 'file'?"),
    ],
)
def test_a_mistyped_setting_is_told_with_what_was_meant(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_settings(written(tmp_path, text) / "perennial.toml")
    assert said in str(raised.value)


def test_a_name_that_resembles_none_is_told_without_a_guess(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_settings(written(tmp_path, "zzz = 1\n") / "perennial.toml")
    assert "did you mean" not in str(raised.value)


def test_settings_in_force_tell_changes_and_no_secret(tmp_path: Path) -> None:
    tokens = f"[api.tokens]\n'{hashed(TOKEN)}' = 'viewer'\n"
    folder = written(tmp_path, f"[triton]\ngrpc_port = 9001\nsecret = '{TOKEN}'\n[models.intent]\n{tokens}")
    rows = {row["name"]: row["value"] for row in json.loads(run(folder, "config", "show", "--changed", "--json"))}
    assert rows["triton.grpc_port"] == "9001"
    assert (rows["triton.secret"], rows["api.tokens"]) == ("***", "***")
    assert "triton.http_port" not in rows
    shown = run(folder, "config", "show")
    assert TOKEN not in shown
    assert hashed(TOKEN) not in shown
    assert "models.intent.learning.encoder" in shown


def test_what_a_webhook_is_authorised_by_is_shown_nowhere_and_a_models_name_hides_nothing(tmp_path: Path) -> None:
    webhook = f"[notify.webhook.chat]\nurl = 'https://x/{TOKEN}'\nheaders = {{Authorization = 'Bearer {TOKEN}'}}\n"
    mail = f"[notify.mail.us]\nhost = 'mail'\nsender = 'a@b'\nrecipients = ['c@d']\nuser = '{TOKEN}'\n"
    folder = written(tmp_path, f"{webhook}{mail}[models.keywords.learning]\nmax_length = 64\n")
    shown = run(folder, "config", "show", "--json")
    assert TOKEN not in shown
    rows = {row["name"]: row["value"] for row in json.loads(shown)}
    assert (rows["notify.webhook.chat.headers"], rows["notify.mail.us.user"]) == ("***", "***")
    assert rows["models.keywords.learning.max_length"] == "64"
    assert rows["triton.expose_unauthenticated_inference"] == "false"
    viewed = settings_in_force(load_settings(folder / "perennial.toml"))
    assert TOKEN not in repr(viewed)
    assert {row.name for row in viewed if row.section == "models.keywords.learning" and row.hidden} == set()


def test_a_check_tells_sound_settings_and_one_models_mistake(tmp_path: Path) -> None:
    folder = written(tmp_path, "[models.intent]\n[models.mail]\ntask = 'text_classification'\nlerning = 1\n")
    assert json.loads(run(folder, "config", "check", "--json", code=2))["refused"].keys() == {"mail"}
    written(tmp_path, "[models.intent]\n")
    assert json.loads(run(folder, "config", "check", "--json")) == {"models": ["intent"], "refused": {}}


def test_the_address_of_the_console_is_one_that_a_browser_reaches(tmp_path: Path) -> None:
    folder = written(tmp_path, "[api]\nport = 9080\n")
    assert run(folder, "open", "--print") == "http://127.0.0.1:9080/\n"
    written(tmp_path, "[api]\nport = 9080\nhost = '::1'\n")
    assert run(folder, "open", "--print") == "http://[::1]:9080/\n"
    written(tmp_path, "[api]\nport = 9080\nhost = '::'\n")
    assert run(folder, "open", "--print") == "http://[::1]:9080/\n"


def test_the_version_and_a_completion_can_be_asked_for() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("perennial 0.")
    assert "--show-completion" in CliRunner().invoke(app, ["--help"]).stdout


def test_an_id_is_told_by_its_beginning() -> None:
    ids = ["card", "card-lost", "loan"]
    assert completed("card", ids, what="reply", listed_by="x") == "card", "an id that others begin with is itself"
    assert completed("l", ids, what="reply", listed_by="x") == "loan"
    with pytest.raises(InputError, match="2 of them begin with 'ca': card, card-lost"):
        completed("ca", ids, what="reply", listed_by="x")
    with pytest.raises(NotFound, match="no reply begins with 'x'; `perennial reply list`"):
        completed("x", ids, what="reply", listed_by="perennial reply list")
