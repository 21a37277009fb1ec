"""Tokens of the control API: printed once, kept as hashes.

A token is 256 random bits. Nobody guesses those, however fast the hash is; so one round of SHA-256 is enough, and it
costs a request nothing. Passwords that people choose would need a slow hash, which is why nobody may choose a token.
"""

import hashlib
import re
import secrets

__all__ = ["PREFIX", "hashed", "is_hashed", "new_token"]

PREFIX = "sha256:"
_HASHED = re.compile(r"sha256:[0-9a-f]{64}")


def new_token() -> str:
    """A new token of 256 random bits."""
    return f"pt_{secrets.token_urlsafe(32)}"


def hashed(token: str) -> str:
    """What the settings hold in the token's place; any string has a hash, whatever its characters."""
    return PREFIX + hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def is_hashed(entry: str) -> bool:
    """Whether a settings entry is a hash and no token."""
    return _HASHED.fullmatch(entry) is not None
