"""Whose account a name is, and who is let in by it: also where somebody tries for long, or from many sides at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.continual.errors import DataError, DependencyUnreachable, Refused
from perennial.ops.commands import accounts
from perennial.ops.commands.accounts import PasswordDoor, account_of, set_account
from perennial.ops.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as opened:
        yield opened


def test_a_letter_that_becomes_another_one_when_it_is_small_gives_nobody_an_account(ledger: Ledger) -> None:
    set_account(ledger, "kate@example.org", actor="test", roles={"*": "admin"})
    with pytest.raises(DataError, match="cannot name an account"):
        account_of(ledger, "https://id.example 7", "\u212aate@example.org", new_role="viewer")
    assert ledger.account("kate@example.org").subject is None
    assert account_of(ledger, "https://id.example 8", "Kate@example.org", new_role=None).name == "kate@example.org"


def test_a_wrong_password_is_told_in_the_log_without_what_was_typed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accounts, "is_password", lambda *_: False)
    set_account(ledger, "ann", actor="test", roles={})
    door = PasswordDoor(ledger)
    for name in ("ann", "Ann", "a password in the wrong field"):
        assert door.let_in(name, "a guess") is None
    told = [record.__dict__ for record in caplog.records if record.getMessage() == "account.refused"]
    assert [(line["account"], line["in_a_row"]) for line in told] == [("ann", 1), ("ann", 2), (None, 1)]


def test_strange_names_do_not_make_room_to_guess_a_password(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "is_password", lambda *_: False)
    monkeypatch.setattr(accounts, "_MOST_NAMES", 20)
    door = PasswordDoor(ledger)
    for number in range(20):
        assert door.let_in(f"nobody-{number}", "a guess") is None
    for _ in range(5):
        assert door.let_in("ann", "a guess") is None
    with pytest.raises(Refused, match="wait 30 s"):
        door.let_in("ann", "a guess")


def test_passwords_do_not_hold_every_thread_that_answers(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    door, deep = PasswordDoor(ledger), 0

    def another_comes(*_: object) -> bool:
        nonlocal deep
        deep += 1
        assert deep < 40
        return door.let_in(f"name-{deep}", "a guess") is not None

    with monkeypatch.context() as patched:
        patched.setattr(accounts, "is_password", another_comes)
        with pytest.raises(DependencyUnreachable, match="at once already"):
            door.let_in("ann", "a guess")
    monkeypatch.setattr(accounts, "is_password", lambda *_: False)
    assert door.let_in("ann", "a guess") is None, "each gave its place back"
