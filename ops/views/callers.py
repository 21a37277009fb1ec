"""Who is let in, by token or by session: the tokens of the settings, and the accounts of the ledger."""

import secrets
import threading
from collections.abc import Mapping
from datetime import UTC, datetime

from perennial.ops.ledger import Account, Ledger
from perennial.ops.safety.roles import EVERY, Caller, Role
from perennial.ops.safety.tokens import hashed
from perennial.ops.settings import ApiSettings

__all__ = ["Callers", "session_of"]


_Known = Mapping[str, tuple[Caller, datetime | None]]  # by the hash of a token, or by an account and its seal


class Callers:
    """Everybody who is let in. A change of an account counts from the next request on. Thread-safe."""

    def __init__(self, settings: ApiSettings, ledger: Ledger) -> None:
        self._ledger = ledger
        self.reads_ledger = settings.accounts
        self.asks = bool(settings.tokens) or settings.accounts  # else everybody on the machine may do everything
        self._set: _Known = {
            entry: (Caller(role, {EVERY: Role[role.upper()]}), None) for entry, role in settings.tokens.items()
        }
        self._read: tuple[tuple[int, str], _Known] = (-1, ""), {}
        self._lock = threading.Lock()

    def with_token(self, token: str) -> Caller | None:
        """Return whose token this is; None where it is nobody's, was revoked or has ended."""
        wanted = hashed(token)
        known = _looked_up({entry: caller for entry, (caller, _) in self._set.items()}, wanted)
        return _looked_up(self.sessions(), wanted) if known is None else known  # those of the settings need no ledger

    def sessions(self) -> Mapping[str, Caller]:
        """Return the callers by what their sessions begin with: the hash of a token, or `session_of` an account."""
        now = datetime.now(UTC)
        known = {**self._set, **self._of_ledger()}
        return {entry: caller for entry, (caller, ends_at) in known.items() if ends_at is None or ends_at > now}

    def _of_ledger(self) -> _Known:
        """Return the accounts as they are now: each change is an entry of the audit log, whose head is one row."""
        if not self.reads_ledger:
            return {}
        with self._lock:
            head = self._ledger.audit_head()
            if self._read[0] != head:
                self._read = head, _known(self._ledger.accounts())
            return self._read[1]


def session_of(account: Account) -> str:
    """Return what an account's sessions begin with; it changes when all of them are to end."""
    return f"account:{account.name}:{account.seal}"


def _looked_up(known: Mapping[str, Caller], wanted: str) -> Caller | None:
    found = None
    for entry, caller in known.items():  # all of them, so that the time does not say which one it is
        if secrets.compare_digest(entry, wanted):
            found = caller
    return found


def _known(accounts: tuple[Account, ...]) -> _Known:
    known: dict[str, tuple[Caller, datetime | None]] = {}
    for account in accounts:
        if account.blocked:
            continue
        caller = Caller(account.name, account.roles)
        known[session_of(account)] = caller, None
        known |= {token.digest: (caller, token.ends_at) for token in account.tokens}
    return known
