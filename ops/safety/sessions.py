"""Sessions of browsers that signed in: a signed cookie each, and a secret for each session's forms.

A cookie names nobody. It is signed with a key of this state folder and its owner together. So it ends when that token
is let in no more, or that account gets another seal. Sessions that were signed out are remembered until they would
have ended.
"""

import hmac
import json
import secrets
import threading
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from perennial.continual.atomic_file import write_atomically

__all__ = ["Sessions"]

_LASTS_S = 12 * 3600
_MOST_ENDED = 10_000
_LONGEST = 300  # characters of a cookie


class Sessions:
    """The sessions of one state folder; they outlive the process. Thread-safe."""

    def __init__(self, file: Path, *, lasts_s: int = _LASTS_S) -> None:
        self.lasts_s = lasts_s
        self._file, self._lock = file, threading.Lock()
        self._key, self._ended = _read(file)
        if not self._key:
            self._key = secrets.token_bytes(32)
            self._keep()
        self.cookie = f"perennial-{self._mac('name')[:8]}"  # cookies know no ports: two services on one host differ

    def begin(self, owner: str) -> str:
        """Return the cookie of a new session: of the token with this hash, or of an account and its seal."""
        ends, name = int(time.time()) + self.lasts_s, secrets.token_urlsafe(16)
        return f"{ends}.{name}.{self._mac('session', owner, str(ends), name)}"

    def owner_of(self, cookie: str, owners: Iterable[str]) -> str | None:
        """Return who of these a session was begun for; None for any other cookie."""
        parts = _parts(cookie)
        if not parts or int(parts[0]) <= time.time() or parts[1] in self._ended:
            return None
        found = None
        for owner in owners:  # all of them, so that the time says nothing of which one it is
            if hmac.compare_digest(self._mac("session", owner, *parts[:2]), parts[2]):
                found = owner
        return found

    def end(self, cookie: str) -> None:
        """Let a session be none from now on, whoever holds a copy of its cookie."""
        if not (parts := _parts(cookie)):
            return
        with self._lock:
            now = time.time()
            left = {name: ends for name, ends in self._ended.items() if ends > now}
            self._ended = dict(list(left.items())[-_MOST_ENDED:]) | {parts[1]: int(parts[0])}
            self._keep()

    def form_secret(self, cookie: str) -> str:
        """Return what every form of a session carries, which no other page can know."""
        return self._mac("form", cookie)

    def signature(self, *parts: str) -> str:
        """Return what nobody can make who does not know the key of this state folder."""
        return self._mac("signature", *parts)

    def _mac(self, *parts: str) -> str:
        return hmac.new(self._key, "\0".join(parts).encode("utf-8", "surrogatepass"), sha256).hexdigest()

    def _keep(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file, json.dumps({"key": self._key.hex(), "ended": self._ended}), mode=0o600)


def _parts(cookie: str) -> list[str]:
    """When the session ends, its name and the signature; nothing of what is no cookie of ours."""
    parts = cookie.split(".") if len(cookie) <= _LONGEST and cookie.isascii() else []
    return parts if len(parts) == 3 and parts[0].isdigit() else []


def _read(file: Path) -> tuple[bytes, dict[str, int]]:
    """The key and the sessions that were ended; neither where there is no file that can be read."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return bytes.fromhex(kept["key"]), {str(name): int(ends) for name, ends in kept["ended"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return b"", {}
