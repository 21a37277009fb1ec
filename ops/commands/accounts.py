"""What an administrator asks of accounts, by whichever door; and whether somebody is who they say."""

import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from perennial.continual.errors import DataError, DependencyUnreachable, NotFound, Refused
from perennial.continual.preparation import shown
from perennial.ops.ledger import Account, Ledger
from perennial.ops.safety.passwords import LEAST_CHARACTERS, MOST_CHARACTERS, hash_password, is_password
from perennial.ops.safety.roles import EVERY, Role
from perennial.ops.safety.tokens import hashed, new_token

__all__ = [
    "AccountView",
    "NewToken",
    "PasswordDoor",
    "TokenView",
    "account_of",
    "add_token",
    "checked_name",
    "set_account",
]

logger = logging.getLogger(__name__)
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")
_RESERVED = frozenset({"local", "loop", "policy", "viewer", "labeller", "operator", "admin"})  # actors of their own
_MOST_WRONG, _WAIT_S, _FORGOTTEN_S = 5, 30.0, 900.0
_MOST_NAMES = 10_000
_AT_ONCE = 8  # each holds one of the threads that answer everybody
_LABEL = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """A token as it is told: never itself."""

    number: int
    label: str
    created_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """An account as it is told: which ways in it has, but nothing that opens one."""

    name: str
    roles: Mapping[str, str]
    blocked: bool
    password: bool
    subject: str | None
    created_at: datetime
    tokens: tuple[TokenView, ...]

    @classmethod
    def of(cls, row: Account) -> "AccountView":
        """Leave the hashes out."""
        tokens = [
            TokenView(number=each.number, label=each.label, created_at=each.created_at, ends_at=each.ends_at)
            for each in row.tokens
        ]
        return cls(
            name=row.name,
            roles={model: role.word for model, role in row.roles.items()},
            blocked=row.blocked,
            password=row.password is not None,
            subject=row.subject,
            created_at=row.created_at,
            tokens=tuple(tokens),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token that was made just now: it is told this once."""

    account: str
    number: int
    token: str
    ends_at: datetime | None


def checked_name(name: str) -> str:
    """Return the name of an account as it is kept.

    Raises:
        DataError: it is none.
    """
    kept = name.strip().lower() if name.isascii() else ""  # a Kelvin sign would become the k of another name
    if not _NAME.fullmatch(kept) or kept in _RESERVED:
        raise DataError(
            f"{shown(name)} cannot name an account; give up to 100 of a-z, 0-9, '.', '_', '@', '+', '-', beginning "
            f"with a letter or digit, and none of {', '.join(sorted(_RESERVED))}"
        )
    return kept


def set_account(
    ledger: Ledger,
    name: str,
    *,
    actor: str,
    roles: Mapping[str, str] | None = None,
    changed: Mapping[str, str | None] | None = None,
    blocked: bool | None = None,
    password: str | None = None,
    dry_run: bool = False,
) -> AccountView:
    """Make an account, or change what is given of it.

    `roles` replace those that it had; `changed` gives or takes (None) the role for a model, and the others stay.
    A dry run tells what the account would be.

    Raises:
        DataError: the name, a role, a model or the password cannot be used.
    """
    kept = checked_name(name)
    held = None if roles is None else {_model(ledger, model): _role(role) for model, role in roles.items()}
    some = {_model(ledger, model): None if role is None else _role(role) for model, role in (changed or {}).items()}
    if password is not None and not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        raise DataError(f"the password has {len(password)} characters; give {LEAST_CHARACTERS} to {MOST_CHARACTERS}")
    if dry_run:
        row = next((row for row in ledger.accounts() if row.name == kept), None)
        row = row or Account(name=kept, roles={}, seal="", created_at=datetime.now(UTC))
        roles_then = {**(row.roles if held is None else held), **some}
        return AccountView.of(
            replace(
                row,
                roles={model: role for model, role in roles_then.items() if role is not None},
                blocked=row.blocked if blocked is None else blocked,
                password=row.password if password is None else "set",
            )
        )
    made = None if password is None else hash_password(password)
    return AccountView.of(
        ledger.put_account(kept, actor=actor, roles=held, changed=some or None, blocked=blocked, password=made)
    )


def account_of(ledger: Ledger, subject: str, name: str, *, new_role: str | None) -> Account:
    """Return the account of somebody whom an identity provider vouches for, and bind it to them the first time.

    Raises:
        DataError: the provider's name for them names no account.
        Refused: the account is blocked or somebody else's, or there is none and nobody new gets a role.
    """
    there = ledger.accounts()
    account = next((row for row in there if row.subject == subject), None)
    if account is None:
        kept = checked_name(name)
        named = next((row for row in there if row.name == kept), None)
        if named is None and new_role is None:
            raise Refused(f"no account is named {kept}; ask an administrator for one")
        if named is not None and named.subject is not None:
            raise Refused(f"the account {kept} belongs to another person of the identity provider")
        if named is None or not named.blocked:
            roles = {EVERY: Role[new_role.upper()]} if named is None and new_role is not None else None
            account = ledger.put_account(kept, actor=kept, roles=roles, subject=subject)
    if account is None or account.blocked:
        raise Refused("this account is blocked; ask an administrator")
    return account


def add_token(ledger: Ledger, account: str, *, label: str, days: float | None, actor: str) -> NewToken:
    """Make a token that acts for an account.

    Raises:
        DataError: the label is too long; NotFound: there is no such account.
    """
    if len(label) > _LABEL or not label.isprintable():
        raise DataError(f"the label of a token has {_LABEL} printable characters at most")
    ends_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    token = new_token()
    row = ledger.add_access_token(account, hashed(token), label=label, ends_at=ends_at, actor=actor)
    return NewToken(account=account, number=row.number, token=token, ends_at=ends_at)


class PasswordDoor:
    """Lets people in by name and password. After five wrong ones in a row a name waits for half a minute."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._wrong: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(_AT_ONCE)

    def let_in(self, name: str, password: str) -> Account | None:
        """Return the account; None where name and password do not belong together, or the account is blocked.

        Raises:
            Refused: too many wrong passwords were given for this name just now.
            DependencyUnreachable: too many people give a password at once.
        """
        if not self._places.acquire(blocking=False):
            raise DependencyUnreachable(f"{_AT_ONCE} people give a password at once already; try again in a moment")
        try:
            return self._known(name, password)
        finally:
            self._places.release()

    def _known(self, name: str, password: str) -> Account | None:
        kept = name.strip().lower()[:MOST_CHARACTERS]
        with self._lock:
            self._wrong = {n: seen for n, seen in self._wrong.items() if time.monotonic() - seen[1] < _FORGOTTEN_S}
            wrong, since = self._wrong.get(kept, (0, 0.0))
            if wrong >= _MOST_WRONG and time.monotonic() - since < _WAIT_S:
                raise Refused(f"{wrong} wrong passwords in a row were given for this name; wait {_WAIT_S:g} s")
            self._wrong.pop(kept, None)
            while len(self._wrong) >= _MOST_NAMES:  # the eldest goes: strange names must not make room to guess
                del self._wrong[next(iter(self._wrong))]
            self._wrong[kept] = wrong + 1, time.monotonic()  # taken back when it was right: many may try at once
        try:
            account: Account | None = self._ledger.account(kept)
        except NotFound:
            account = None
        right = is_password(password[: MOST_CHARACTERS + 1], None if account is None else account.password)
        if not right or account is None or account.blocked:
            known = None if account is None else account.name  # not what was typed: it may be a password
            logger.warning("account.refused", extra={"account": known, "in_a_row": wrong + 1})
            return None
        with self._lock:
            self._wrong.pop(kept, None)
        return account


def _model(ledger: Ledger, model: str) -> str:
    known = [row.name for row in ledger.models()]
    if model != EVERY and model not in known:
        raise DataError(f"model {shown(model)} is not known; give * for all, or one of {', '.join(known) or 'none'}")
    return model


def _role(role: str) -> Role:
    try:
        return Role[role.upper()]
    except KeyError:
        raise DataError(f"{shown(role)} is no role; give one of {', '.join(each.word for each in Role)}") from None
