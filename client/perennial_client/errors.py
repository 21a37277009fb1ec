"""What can go wrong, each with what happened and what to do:

ClientError
 +-- BadInput          what was given cannot be sent; nothing was
 +-- Unreachable       nobody answers
 |    +-- TooLate      the time given to the call is over
 +-- Overloaded        the server cannot answer now, and says when it may
 +-- NotFound          no such model, version or thing
 +-- NotAllowed        no token, or one of too low a role
 +-- Refused           the server answers and refuses
      +-- RowsRefused  some rows break a rule; the others are kept
"""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "BadInput",
    "ClientError",
    "NotAllowed",
    "NotFound",
    "Overloaded",
    "Refused",
    "RowsRefused",
    "TooLate",
    "Unreachable",
]


class ClientError(Exception):
    """Any error of this package."""


class BadInput(ClientError, ValueError):
    """What was given cannot be sent."""


class Unreachable(ClientError):
    """Nobody answers; worth another try."""


class TooLate(Unreachable):
    """The time given to the call is over; whether the server did what was asked is not known."""


class Overloaded(ClientError):
    """The server cannot answer now; worth another try after `retry_after_s`, where it says so."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotFound(ClientError):
    """There is no such model, version or thing."""


class NotAllowed(ClientError):
    """The control API wants a token, or one of a higher role."""


class Refused(ClientError):
    """The server answers and refuses. `status` is its code: of HTTP, or gRPC's name of it."""

    def __init__(self, message: str, status: str = "") -> None:
        super().__init__(message)
        self.status = status


class RowsRefused(Refused):
    """Some rows break a rule and the others are kept. `rows` names each: {"row": 3, "cause": "..."}."""

    def __init__(self, message: str, status: str, rows: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(message, status)
        self.rows = tuple(rows)
