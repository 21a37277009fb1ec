"""Passwords that people choose: kept as Argon2id hashes, which are slow and take 64 MB to make on purpose."""

import threading
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ["LEAST_CHARACTERS", "MOST_CHARACTERS", "hash_password", "is_password"]

LEAST_CHARACTERS, MOST_CHARACTERS = 12, 200
_one_by_one = threading.Lock()  # so that many who try at once cannot fill the memory


def hash_password(password: str) -> str:
    """Return what is kept in the password's place; it takes about 50 ms."""
    with _one_by_one:
        return _hasher().hash(password.encode("utf-8", "surrogatepass"))


def is_password(password: str, kept: str | None) -> bool:
    """Tell whether this is the password. Without a kept hash the answer is no and takes as long."""
    from argon2.exceptions import InvalidHashError, VerificationError

    with _one_by_one:
        try:
            _hasher().verify(kept or _of_nobody(), password.encode("utf-8", "surrogatepass"))
        except (VerificationError, InvalidHashError):
            return False
    return kept is not None


@lru_cache(maxsize=1)
def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher

    return PasswordHasher()


@lru_cache(maxsize=1)
def _of_nobody() -> str:
    return _hasher().hash("the password of nobody")
