"""A wrong setting is named, and no secret is printed for it; tokens are kept as hashes."""

import json
import logging
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.continual.errors import ConfigurationError
from perennial.ops.ledger import Ledger
from perennial.ops.safety.tokens import hashed, is_hashed, new_token
from perennial.ops.settings import load_settings

SECRET = "hunter2-Zq7"
_MAIL = '[notify.mail.a]\nhost = "x"\nsender = "a@b"\nrecipients = ["c"]\n'
_FILES = {
    "a plain token": f'[api.tokens]\n"{SECRET}" = "viewer"',
    "a wrong role": f'[api.tokens]\n"{SECRET}" = "emperor"',
    "a wrong role of a hash": f'[api.tokens]\n"{hashed(SECRET)}" = "{SECRET}"',
    "role and token the wrong way round": f'[api.tokens]\nviewer = "{SECRET}"',
    "a table in a role's place": f'[api.tokens.viewer]\ntoken = "{SECRET}"',
    "tokens as a list": f'[api]\ntokens = ["{SECRET}"]',
    "tokens as a text": f'[api]\ntokens = "{SECRET}"',
    "api as a text": f'api = "{SECRET}"',
    "a misspelt section": f'[apis.tokens]\n"{SECRET}" = "viewer"',
    "a misspelt setting": f'[api]\ntokn = "{SECRET}"',
    "another wrong setting beside a secret": f'[notify.webhook.a]\nurl = "{SECRET}"\nsecret = "{SECRET}"\nwrong = 1',
    "a webhook without a url": f'[notify.webhook.a]\nsecret = "{SECRET}"',
    "a webhook's secret as a number list": f'[notify.webhook.a]\nurl = "http://x"\nsecret = ["{SECRET}"]',
    "a webhook's url as a list": f'[notify.webhook.a]\nurl = ["http://user:{SECRET}@x"]',
    "a webhook's header": f'[notify.webhook.a]\nurl = "http://x"\nheaders = {{ Authorization = ["{SECRET}"] }}',
    "a webhook as a url": f'[notify]\nwebhook = "http://x/{SECRET}"',
    "a mail password": f'{_MAIL}password = {{ a = "{SECRET}" }}',
    "a mail password misspelt": f'{_MAIL}pasword = "{SECRET}"',
    "mail without a host": f'[notify.mail.a]\npassword = "{SECRET}"',
    "a ledger url as a table": f'ledger_url = {{ password = "{SECRET}" }}',
    "a ledger url as a list": f'ledger_url = ["postgresql://a:{SECRET}@b/c"]',
    "a port as a secret": f'[triton]\ngrpc_port = "{SECRET}"\n',
    "no TOML after a secret": f'[api.tokens]\n"{SECRET}" = "viewer"\nthis is not toml {SECRET}',
    "the same token twice": f'[api.tokens]\n"{SECRET}" = "viewer"\n"{SECRET}" = "viewer"',
    "a token declared twice": f"[api.tokens.{SECRET}]\na = 1\n[api.tokens.{SECRET}]\na = 1",
    "a value in a token's place": f"[api.tokens]\n{SECRET} = viewer",
}


@pytest.mark.parametrize("content", _FILES.values(), ids=_FILES)
def test_no_settings_error_prints_a_secret(tmp_path: Path, content: str) -> None:
    path = tmp_path / "perennial.toml"
    path.write_text(content)
    with pytest.raises(ConfigurationError) as raised:
        load_settings(path)
    traceback_text = "".join(traceback.format_exception(raised.value))
    traceback_text += logging.Formatter().formatException((raised.type, raised.value, raised.tb))
    assert SECRET not in traceback_text.replace(repr(content), "")
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PERENNIAL_API__TOKENS", f'{{"{SECRET}": "viewer"}}'),
        ("PERENNIAL_API__TOKENS", f'{{"{SECRET}": '),
        ("PERENNIAL_API__TOKENS", SECRET),
        ("PERENNIAL_API", SECRET),
        (f"PERENNIAL_API__TOKENS__{SECRET}", "viewer"),
        ("PERENNIAL_NOTIFY__WEBHOOK__A__SECRET", SECRET),
        ("PERENNIAL_NOTIFY__MAIL__A__PASSWORD", SECRET),
        ("PERENNIAL_NOTIFY__MAIL__A__PORT", SECRET + "/"),
        ("PERENNIAL_NOTIFY", f'{{"mail": {{"a": "{SECRET}"}}}}'),
        ("PERENNIAL_API__SECRET", SECRET),
    ],
)
def test_no_environment_error_prints_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    traceback_text = "".join(traceback.format_exception(raised.value)).replace(repr(value), "")
    assert SECRET.lower() not in traceback_text.lower()


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://user:{SECRET}@host/name",
        f"user:{SECRET}@host/name",
        f"postgresql://user:{SECRET}@host:port/name",
        f"postgresql://user:{SECRET}@127.0.0.1:1/name",
        f"postgresql://user@127.0.0.1:1/name?password={SECRET}",
        f"sqlite://user:{SECRET}@/:memory:",
    ],
)
def test_no_ledger_error_prints_the_password(url: str) -> None:
    with pytest.raises(Exception, match="ledger") as raised:
        Ledger.open(url)
    traceback_text = "".join(traceback.format_exception(raised.value))
    assert SECRET not in traceback_text
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[api.tokens]\n"plain" = "viewer"', "perennial token new"),
        ("[triton]\ngrpc_port = 99999", "seen 99999"),
        ('[models.intent.learning]\nlearner = "magic"', "seen 'magic'"),
    ],
)
def test_what_is_no_secret_is_told_with_the_next_step(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "perennial.toml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        load_settings(path)


@given(st.text())
def test_every_text_has_a_hash_and_is_none(text: str) -> None:
    assert is_hashed(hashed(text))
    assert text == hashed(text) or not is_hashed(text)


def test_new_tokens_differ_and_cannot_be_guessed() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 43


def test_a_token_is_printed_once_and_its_hash_lets_it_in(tmp_path: Path) -> None:
    made = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from perennial.ops.cli import main; sys.exit(main())",
            "token",
            "new",
            "-r",
            "viewer",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    made_token = json.loads(made.stdout)
    path = tmp_path / "perennial.toml"
    path.write_text(made_token["setting"])
    assert load_settings(path).api.tokens == {hashed(made_token["token"]): "viewer"}
    assert made_token["token"] not in made_token["setting"]
