"""A row's lottery number: chance that is a function of the row, so that repeating an offer changes nothing.

Keeping the k rows with the highest numbers is a uniform sample of size k of all different rows offered, whatever their
order. Source: bottom-k sampling, Cohen and Kaplan, "Summarizing data using bottom-k sketches", PODC 2007; weights as
in Efraimidis and Spirakis, "Weighted random sampling with a reservoir", IPL 97(5), 2006.
"""

import hashlib
import math
from dataclasses import dataclass

__all__ = ["Ticket", "draw", "weighted"]

_SCALE = 2.0**-64


@dataclass(frozen=True, slots=True)
class Ticket:
    """A row's identity, shortened under the seed, and its number, uniform in (0, 1) over seeds.

    >>> draw(b"card lost", seed=1) == draw(b"card lost", seed=2)
    False
    """

    identity: bytes
    number: float


def draw(identity: bytes, *, seed: int) -> Ticket:
    """Return the ticket of one identity under one seed."""
    digest = hashlib.blake2b(identity, digest_size=16, key=seed.to_bytes(8, "little")).digest()
    return Ticket(digest, (int.from_bytes(digest[:8], "little") + 0.5) * _SCALE)


def weighted(number: float, weight: float) -> float:
    """Return the priority of a number under a positive weight: the higher kept, odds in proportion to the weight.

    >>> weighted(0.5, 2.0) > weighted(0.5, 1.0)
    True
    """
    return math.log(number) / weight
