"""People and programs who are let in: their accounts, what each may do for which model, and their tokens' hashes."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from perennial.continual.errors import NotFound
from perennial.ops.ledger import account_tables, schema
from perennial.ops.ledger.audit import AuditStore
from perennial.ops.ledger.rows import Conflict
from perennial.ops.safety.roles import Role

__all__ = ["AccessToken", "Account", "AccountStore"]

_ACCOUNT, _ROLE, _TOKEN = account_tables.account, account_tables.account_role, account_tables.access_token


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """One token of an account, known by its hash alone; `ends_at` is None for one that ends by being revoked."""

    number: int
    account: str
    label: str
    digest: str = field(repr=False)
    created_at: datetime
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who may come in. `roles` are by model, `*` for all; `seal` changes when every session is to end."""

    name: str
    roles: Mapping[str, Role]
    blocked: bool = False
    password: str | None = field(default=None, repr=False)  # its slow hash
    subject: str | None = None  # who the identity provider says they are
    seal: str = field(repr=False)
    created_at: datetime
    tokens: tuple[AccessToken, ...] = ()


class AccountStore(AuditStore):
    """The part of the ledger that keeps accounts. Each change is one audit entry, with what was before and after."""

    def accounts(self) -> tuple[Account, ...]:
        """Return all accounts by name, each with its roles and tokens."""
        with self._read() as connection:
            return _accounts(connection)

    def account(self, name: str) -> Account:
        """Return one account.

        Raises:
            NotFound: there is none of this name.
        """
        with self._read() as connection:
            return _one(connection, name)

    def put_account(
        self,
        name: str,
        *,
        actor: str,
        roles: Mapping[str, Role] | None = None,
        changed: Mapping[str, Role | None] | None = None,
        blocked: bool | None = None,
        password: str | None = None,
        subject: str | None = None,
    ) -> Account:
        """Make an account, or change what is given of one; `password` is the slow hash. A retry changes nothing more.

        `roles` replace all that it had; `changed` gives or takes (None) those for some models, and the others stay.
        A new password, a block and another subject end every session of the account.

        Raises:
            Conflict: the subject belongs to another account.
        """
        with self._write() as connection:
            self._lock_accounts(connection)
            there = {row.name: row for row in _accounts(connection)}
            before = there.get(name)
            if subject is not None and any(row.subject == subject and row.name != name for row in there.values()):
                raise Conflict(f"another account is bound to the person that {name} would be bound to")
            facts: dict[str, Any] = {
                column: value
                for column, value in (("blocked", blocked), ("password", password), ("subject", subject))
                if value is not None
            }
            if before is None:
                row = {"name": name, "blocked": False, "created_at": self._clock(), "seal": _seal(), **facts}
                connection.execute(insert(_ACCOUNT).values(**row))
            elif facts:
                ended = {"seal": _seal()} if any(getattr(before, key) != value for key, value in facts.items()) else {}
                connection.execute(update(_ACCOUNT).where(_ACCOUNT.c.name == name).values(**facts, **ended))
            if changed is not None:
                had = roles if roles is not None else {} if before is None else before.roles
                roles = {model: role for model, role in {**had, **changed}.items() if role is not None}
            if roles is not None:
                connection.execute(delete(_ROLE).where(_ROLE.c.account == name))
                held = [{"account": name, "model": model, "role": role.word} for model, role in roles.items()]
                if held:
                    connection.execute(insert(_ROLE), held)
            after = _one(connection, name)
            if before is None or _told(before) != _told(after) or password is not None:
                detail = {"account": name, "before": None if before is None else _told(before), "after": _told(after)}
                if password is not None:
                    detail["password"] = "set" if before is None or before.password is None else "changed"
                self._append_audit(connection, actor=actor, action="account.set", model=None, detail=detail)
            return after

    def remove_account(self, name: str, *, actor: str) -> None:
        """Take an account out, with its roles, tokens and sessions.

        Raises:
            NotFound: there is none of this name.
        """
        with self._write() as connection:
            self._lock_accounts(connection)
            before = _one(connection, name)
            for table in (_TOKEN, _ROLE):
                connection.execute(delete(table).where(table.c.account == name))
            connection.execute(delete(_ACCOUNT).where(_ACCOUNT.c.name == name))
            detail = {"account": name, "before": _told(before), "after": None}
            self._append_audit(connection, actor=actor, action="account.removed", model=None, detail=detail)

    def add_access_token(
        self, account: str, digest: str, *, label: str, ends_at: datetime | None, actor: str
    ) -> AccessToken:
        """Let a token in that acts for an account; a retry with the same hash is refused.

        Raises:
            NotFound: there is no such account.
        """
        with self._write() as connection:
            self._lock_accounts(connection)
            _one(connection, account)
            row = {"account": account, "label": label, "digest": digest, "ends_at": ends_at}
            added = insert(_TOKEN).values(**row, created_at=self._clock()).returning(_TOKEN.c.id)
            number = connection.execute(added).scalar_one()
            token = next(each for each in _one(connection, account).tokens if each.number == number)
            detail = {"account": account, "before": None, "after": _token_told(token)}
            self._append_audit(connection, actor=actor, action="token.added", model=None, detail=detail)
            return token

    def revoke_access_token(self, account: str, number: int, *, actor: str) -> None:
        """Let a token in no more, from the next request on.

        Raises:
            NotFound: the account has no such token.
        """
        with self._write() as connection:
            self._lock_accounts(connection)
            held = {token.number: token for token in _one(connection, account).tokens}
            if number not in held:
                raise NotFound(f"account {account} has no token {number}; it has {sorted(held) or 'none'}")
            connection.execute(delete(_TOKEN).where(_TOKEN.c.id == number))
            detail = {"account": account, "before": _token_told(held[number]), "after": None}
            self._append_audit(connection, actor=actor, action="token.revoked", model=None, detail=detail)

    def _lock_accounts(self, connection: Connection) -> None:
        """Let changes of accounts come after each other: what was read before one is still so when it is written."""
        connection.execute(select(schema.audit_head).with_for_update())


def _accounts(connection: Connection) -> tuple[Account, ...]:
    roles: dict[str, dict[str, Role]] = {}
    for row in connection.execute(select(_ROLE).order_by(_ROLE.c.model)):
        roles.setdefault(row.account, {})[row.model] = Role[row.role.upper()]
    tokens: dict[str, list[AccessToken]] = {}
    for held in connection.execute(select(_TOKEN).order_by(_TOKEN.c.id)).mappings():
        facts = dict(held)
        tokens.setdefault(held["account"], []).append(AccessToken(number=facts.pop("id"), **facts))
    return tuple(
        Account(roles=roles.get(row["name"], {}), tokens=tuple(tokens.get(row["name"], ())), **row)
        for row in connection.execute(select(_ACCOUNT).order_by(_ACCOUNT.c.name)).mappings()
    )


def _one(connection: Connection, name: str) -> Account:
    there = {row.name: row for row in _accounts(connection)}
    if name not in there:
        raise NotFound(f"account {name!r} is not known; there are {', '.join(there) or 'none'}")
    return there[name]


def _told(account: Account) -> dict[str, Any]:
    """What the audit log keeps of an account: no hash of anything."""
    return {
        "roles": {model: role.word for model, role in account.roles.items()},
        "blocked": account.blocked,
        "password": account.password is not None,
        "subject": account.subject,
    }


def _token_told(token: AccessToken) -> dict[str, Any]:
    ends = None if token.ends_at is None else token.ends_at.isoformat()
    return {"token": token.number, "label": token.label, "ends_at": ends}


def _seal() -> str:
    return secrets.token_hex(16)
