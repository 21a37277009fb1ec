"""Sums that hide each other: whole numbers modulo 2^64, and masks of which nothing is left once all are added.

Source: Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", its pairwise
masks, without the recovery of sites that drop out: a round in which one is missing is begun anew.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DataError, DependencyUnreachable
from perennial.continual.privacy.noise import normal_of

__all__ = ["ROOM", "FixedPoint", "Keys", "SecretNoise", "masked", "unmasked"]

_WORD, _SIGN = 64, 2  # bits: of a number, and of them kept for the sign and for a sum of all
_FINEST = 44  # bits behind the point: 6e-14
_COARSEST = 36  # 1.5e-11
ROOM = 4096.0  # of each site, for noise
_BLOCK = 1 << 20  # numbers at a time
_INFO = b"perennial-federation-1"
Floats = NDArray[np.float64]
Words = NDArray[np.uint64]


class FixedPoint:
    """Numbers as whole multiples of 2^-bits, as fine as the largest sum of all sites lets them be.

    >>> point = FixedPoint(largest=1000.0, sites=3)
    >>> point.decoded(point.encoded(np.array([-1.5, 0.25]))).tolist()
    [-1.5, 0.25]
    """

    def __init__(self, *, largest: float, sites: int) -> None:
        whole = math.ceil(math.log2(largest + sites * ROOM))
        self.bits = min(_FINEST, _WORD - _SIGN - whole)
        if self.bits < _COARSEST:
            raise ConfigurationError(
                f"sums up to {largest:.0f} leave {self.bits} bits behind the point, fewer than {_COARSEST}; exchange "
                "the sums of fewer rows, or of features that are of length 1"
            )

    def encoded(self, values: Floats) -> Words:
        """The nearest multiples, (n,)."""
        whole: Words = np.rint(values * 2.0**self.bits).astype(np.int64).view(np.uint64)
        return whole

    def decoded(self, words: Words) -> Floats:
        """The numbers that are these multiples, (n,)."""
        values: Floats = words.view(np.int64) / 2.0**self.bits
        return values


class Keys:
    """A site's pair of keys for one round; the private one never leaves the site's own folder.

    >>> ours, theirs = Keys.made(), Keys.made()
    >>> ours.shared(theirs.public, b"round", b"a b") == theirs.shared(ours.public, b"round", b"a b")
    True
    """

    def __init__(self, private: str) -> None:
        self._x25519 = _x25519()
        self.private = private
        try:
            self._key = self._x25519.X25519PrivateKey.from_private_bytes(bytes.fromhex(private))
        except ValueError as error:
            raise DataError(f"the private key of the round is damaged ({error}); begin a new round") from error

    @classmethod
    def made(cls) -> "Keys":
        """A new pair."""
        return cls(_x25519().X25519PrivateKey.generate().private_bytes_raw().hex())

    @property
    def public(self) -> str:
        """What the other sites may see, as hexadecimal digits."""
        return str(self._key.public_key().public_bytes_raw().hex())

    def noise(self) -> "SecretNoise":
        """Noise that nobody without the private key can tell.

        It is alike each time, whatever list of sites the folder has by then: a second draw could be averaged.
        """
        return SecretNoise(self._own(b" noise", None))

    def seal(self, content: bytes) -> str:
        """What only this content has under this key, as hexadecimal digits; nobody else can try which content it is."""
        return self._own(b" seal", content).hex()

    def shared(self, public: str, salt: bytes, pair: bytes) -> bytes:
        """32 bytes that this site and the one of the public key have, and nobody else.

        Raises:
            DataError: the public key is none.
        """
        try:
            peer = self._x25519.X25519PublicKey.from_public_bytes(bytes.fromhex(public))
            secret = self._key.exchange(peer)
        except ValueError as error:
            raise DataError(f"the public key {public[:16]!r} of a site cannot be used ({error}); begin anew") from error
        return _derived(secret, salt, b" " + pair)

    def _own(self, purpose: bytes, salt: bytes | None) -> bytes:
        """32 bytes that only the private key gives."""
        return _derived(bytes.fromhex(self.private), salt, purpose)


class SecretNoise:
    """Normal numbers out of a cipher's stream: whoever learns some of them can tell none of the others.

    >>> SecretNoise(bytes(32)).standard_normal((2, 1)).shape
    (2, 1)
    """

    def __init__(self, key: bytes) -> None:
        self._encryptor = _cipher(key)

    def standard_normal(self, size: tuple[int, ...]) -> Floats:
        """The next ones."""
        return normal_of(self._encryptor.update(bytes(8 * math.prod(size)))).reshape(size)


def masked(words: Words, site: str, keys: Keys, others: Mapping[str, str], salt: bytes) -> Words:
    """The words with a mask for each other site; of each pair one adds what the other subtracts.

    Args:
        words: (n,).
        site: whose they are.
        keys: this site's.
        others: site -> its public key.
        salt: what tells this round from every other: no mask is used twice.
    """
    return _shifted(words, site, keys, others, salt, sign=1)


def unmasked(words: Words, site: str, keys: Keys, others: Mapping[str, str], salt: bytes) -> Words:
    """What this site's own words were before `masked`."""
    return _shifted(words, site, keys, others, salt, sign=-1)


def _shifted(words: Words, site: str, keys: Keys, others: Mapping[str, str], salt: bytes, *, sign: int) -> Words:
    shifted = words.copy()
    for other, public in sorted(others.items()):
        pair = " ".join(sorted((site, other))).encode()
        adds = (site < other) is (sign > 0)
        start = 0
        for block in _stream(keys.shared(public, salt, pair), len(words)):
            part = shifted[start : start + len(block)]
            if adds:
                part += block
            else:
                part -= block
            start += len(block)
    return shifted


def _stream(key: bytes, length: int) -> Iterator[Words]:
    """As many words of a key's stream, in blocks."""
    encryptor = _cipher(key)
    for start in range(0, length, _BLOCK):
        block = encryptor.update(bytes(8 * min(_BLOCK, length - start)))
        yield np.frombuffer(block, dtype="<u8")


def _derived(secret: bytes, salt: bytes | None, purpose: bytes) -> bytes:
    """RFC 5869's 32 bytes of a secret for one purpose."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return bytes(HKDF(SHA256(), 32, salt, _INFO + purpose).derive(secret))


def _cipher(key: bytes) -> Any:
    """RFC 8439's ChaCha20, its counter from 0: a key is used once."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    return Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()


def _x25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import x25519
    except ImportError as error:
        raise DependencyUnreachable(
            "sites hide their sums by the package cryptography, which is not installed; install the extra `federation`"
        ) from error
    return x25519
