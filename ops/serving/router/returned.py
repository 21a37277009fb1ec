"""Responses that go back as what Triton's call returns, which costs less than to send each of them."""

import threading
from collections.abc import Sequence
from typing import Any

__all__ = ["Returned"]


class Returned:
    """Collects the responses that the thread of the call makes itself.

    >>> returned, first, second = Returned(), object(), object()
    >>> returned.takes(second, "an answer")
    True
    >>> returned.responses([first, second])
    [None, 'an answer']
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._made: dict[int, Any] = {}

    def takes(self, request: Any, response: Any) -> bool:
        """Whether it goes back so; what another thread answers is to be sent."""
        if threading.get_ident() != self._thread:
            return False
        self._made[id(request)] = response
        return True

    def responses(self, requests: Sequence[Any]) -> list[Any] | None:
        """As Triton takes them, with none for each request that is answered otherwise; None where all of them are."""
        return [self._made.get(id(request)) for request in requests] if self._made else None
