"""What the ledger promises of accounts and their tokens, on SQLite and on PostgreSQL alike."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from perennial.continual.errors import NotFound
from perennial.ops.ledger import Conflict, Ledger
from perennial.ops.safety.roles import Role
from tests.contract.clock import Clock

pytestmark = pytest.mark.component


def test_what_is_not_given_of_an_account_stays_and_each_change_is_told_with_before_and_after(ledger: Ledger) -> None:
    ledger.put_account("ann", actor="root", roles={"intent": Role.LABELLER, "*": Role.VIEWER})
    ledger.put_account("ann", actor="root", password="a slow hash")
    seen = ledger.put_account("ann", actor="root", roles={"*": Role.ADMIN})
    assert (seen.roles, seen.password, seen.blocked) == ({"*": Role.ADMIN}, "a slow hash", False)
    ledger.put_account("ann", actor="root", roles={"*": Role.ADMIN})
    entries = ledger.audit_entries()
    assert [entry.action for entry in entries] == ["account.set"] * 3, "what changes nothing is no entry"
    told = [(entry.detail["before"], entry.detail["after"]) for entry in entries]
    assert told[0][0] is None
    assert told[0][1]["roles"] == {"*": "viewer", "intent": "labeller"}
    assert [after for _, after in told[:-1]] == [before for before, _ in told[1:]]
    assert entries[1].detail["password"] == "set"
    assert "slow" not in str(entries)
    assert ledger.verify_audit().intact


def test_a_password_a_block_and_a_binding_end_the_sessions_and_roles_do_not(ledger: Ledger) -> None:
    seals = [ledger.put_account("ann", actor="root", roles={"*": Role.VIEWER}).seal]
    seals.append(ledger.put_account("ann", actor="root", roles={"*": Role.ADMIN}).seal)
    assert seals[0] == seals[1]
    changes: tuple[dict[str, Any], ...] = (
        {"password": "one"}, {"password": "two"}, {"blocked": True}, {"blocked": False}, {"subject": "s"}
    )  # fmt: skip
    seals += [ledger.put_account("ann", actor="root", **change).seal for change in changes]
    assert len(set(seals)) == len(seals) - 1


def test_a_token_belongs_to_its_account_until_it_is_revoked(ledger: Ledger, clock: Clock) -> None:
    with pytest.raises(NotFound, match="account 'ann' is not known; there are none"):
        ledger.add_access_token("ann", "d0", label="", ends_at=None, actor="root")
    for name in ("ann", "bob"):
        ledger.put_account(name, actor="root", roles={})
    ends = clock() + timedelta(days=1)
    one = ledger.add_access_token("ann", "d1", label="laptop", ends_at=ends, actor="root")
    two = ledger.add_access_token("ann", "d2", label="", ends_at=None, actor="root")
    assert [token.digest for token in ledger.account("ann").tokens] == ["d1", "d2"]
    assert one.ends_at == ends
    with pytest.raises(Conflict):
        ledger.add_access_token("bob", "d1", label="", ends_at=None, actor="root")
    with pytest.raises(NotFound, match=f"account bob has no token {one.number}; it has none"):
        ledger.revoke_access_token("bob", one.number, actor="root")
    ledger.revoke_access_token("ann", one.number, actor="root")
    assert ledger.account("ann").tokens == (two,)
    ledger.remove_account("ann", actor="root")
    assert [account.name for account in ledger.accounts()] == ["bob"]
    assert ledger.audit_entries(limit=1)[0].detail["after"] is None


def test_one_person_of_the_identity_provider_is_one_account(ledger: Ledger) -> None:
    ledger.put_account("ann", actor="root", subject="https://id.example 7")
    with pytest.raises(Conflict, match="another account is bound"):
        ledger.put_account("bob", actor="root", subject="https://id.example 7")
    assert ledger.put_account("ann", actor="root", subject="https://id.example 7").subject == "https://id.example 7"


def test_changes_of_one_account_at_once_make_one_account_and_follow_each_other(ledger: Ledger) -> None:
    started = Barrier(6)

    def change(number: int) -> None:
        started.wait(20)
        ledger.put_account("ann", actor=f"root-{number}", roles={"*": Role.VIEWER}, password=f"hash {number}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(change, range(6)))
    assert [account.name for account in ledger.accounts()] == ["ann"]
    told = [entry.detail for entry in ledger.audit_entries()]
    assert [each["before"] is None for each in told] == [True, *[False] * 5]
    assert [each["after"] for each in told[:-1]] == [each["before"] for each in told[1:]]


def test_roles_for_several_models_that_are_changed_at_once_all_count(ledger: Ledger) -> None:
    ledger.put_account("ann", actor="root", roles={"*": Role.VIEWER, "model-0": Role.ADMIN})
    started = Barrier(6)

    def change(number: int) -> None:
        started.wait(20)
        role = None if number == 0 else Role.LABELLER
        ledger.put_account("ann", actor=f"root-{number}", changed={f"model-{number}": role})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(change, range(6)))
    given = {f"model-{number}": Role.LABELLER for number in range(1, 6)}
    assert ledger.account("ann").roles == {"*": Role.VIEWER, **given}
