"""What is decided by a row's identity alone: its number, and what it may be used for."""

import hashlib

from perennial.continual.errors import ConfigurationError
from perennial.continual.records import Split

__all__ = ["number_of", "split_by"]

_BUCKETS = 1 << 64


def number_of(identity: bytes, *, salt: str = "") -> int:
    """A stable 64-bit number for an identity; the same on every machine and in every process."""
    key = hashlib.blake2b(salt.encode()).digest() if salt else b""
    return int.from_bytes(hashlib.blake2b(identity, digest_size=8, key=key).digest(), "big")


def split_by(identity: bytes, *, holdout_share: float = 0.1, salt: str = "") -> Split:
    """What a row may be used for, decided by its identity alone.

    What is asked again can therefore never be in both splits; growing `holdout_share` only moves rows into the
    hold-out.

    Raises:
        ConfigurationError: `holdout_share` is outside [0, 1].

    >>> split_by(b"anything", holdout_share=1.0).value
    'holdout'
    """
    if not 0.0 <= holdout_share <= 1.0:
        raise ConfigurationError(f"holdout_share is {holdout_share}; it must lie in [0, 1], e.g. 0.1")
    return Split.HOLDOUT if number_of(identity, salt=salt) < holdout_share * _BUCKETS else Split.TRAIN
