"""Sessions of browsers: signed, bound to a token, ended for good, and kept over a restart."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from perennial.ops.safety.sessions import Sessions

TOKENS = ("sha256:of-one", "sha256:of-another")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "console.json"


def test_a_session_is_known_by_its_token_also_to_the_next_process(file: Path) -> None:
    cookie = Sessions(file).begin(TOKENS[1])
    after = Sessions(file)
    assert after.owner_of(cookie, TOKENS) == TOKENS[1]
    assert after.owner_of(cookie, TOKENS[:1]) is None, "a token that left the settings takes its sessions with it"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "another" not in cookie


def test_what_was_ended_stays_ended(file: Path) -> None:
    sessions = Sessions(file)
    first, second = sessions.begin(TOKENS[0]), sessions.begin(TOKENS[0])
    sessions.end(first)
    for known in (sessions, Sessions(file)):
        assert known.owner_of(first, TOKENS) is None
        assert known.owner_of(second, TOKENS) == TOKENS[0]


def test_a_session_ends_by_its_time(file: Path) -> None:
    assert Sessions(file, lasts_s=0).owner_of(Sessions(file, lasts_s=0).begin(TOKENS[0]), TOKENS) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda cookie: "",
        lambda cookie: cookie[:-1] + ("0" if cookie[-1] != "0" else "1"),
        lambda cookie: "9" + cookie,
        lambda cookie: cookie + ".x",
        lambda cookie: "²." + cookie.split(".", 1)[1],
        lambda cookie: cookie.replace(".", "é.", 1),
        lambda cookie: cookie * 50,
        lambda cookie: "\ud800",
    ],
)
def test_any_other_cookie_is_none(file: Path, change: Callable[[str], str]) -> None:
    sessions = Sessions(file)
    other = change(sessions.begin(TOKENS[0]))
    assert sessions.owner_of(other, TOKENS) is None
    sessions.end(other)


def test_forms_of_two_sessions_carry_two_secrets(file: Path) -> None:
    sessions = Sessions(file)
    one, other = sessions.form_secret("a"), sessions.form_secret("b")
    assert one != other


def test_a_damaged_file_makes_a_new_key(file: Path) -> None:
    cookie = Sessions(file).begin(TOKENS[0])
    for content in ("", "{}", '{"key": "zz", "ended": {}}', json.dumps({"key": "00", "ended": []}), "[]"):
        file.write_text(content)
        assert Sessions(file).owner_of(cookie, TOKENS) is None
