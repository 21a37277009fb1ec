"""Class-balanced, and within a class the rows the model was unsure of are likelier to stay."""

import math
from collections.abc import Sequence
from typing import Any

from perennial.continual.errors import DataError
from perennial.continual.replay.lottery import Ticket, weighted
from perennial.continual.replay.port import BufferKind, R
from perennial.continual.replay.ranked import RankedBuffer

__all__ = ["UncertaintyBuffer"]

_BASE = 0.1  # a row the model was sure of still has a tenth of the odds: a buffer of hard rows alone forgets the easy


class UncertaintyBuffer(RankedBuffer[R]):
    """Keeps rows of a class with odds in proportion to 0.1 + uncertainty; equal uncertainties give a uniform sample.

    A row offered without its uncertainty counts as 0.5.
    Source: weighted sampling by keys, Efraimidis and Spirakis, IPL 97(5), 2006.

    >>> from datetime import datetime, timezone
    >>> from perennial.continual.records import Example
    >>> buffer = UncertaintyBuffer(capacity=20, seed=7)
    >>> at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    >>> for n in range(200):
    ...     _ = buffer.offer(Example(text=f"text {n}", label="a", at=at), uncertainty=float(n % 2))
    >>> sum(int(row.text.split()[1]) % 2 for row in buffer.rows()) > 10
    True
    """

    kind = BufferKind.UNCERTAINTY

    def _group(self, row: R) -> str:
        return self._task.stratum(row)

    def _note(self, row: R, ticket: Ticket, uncertainty: float | None, embedding: Sequence[float] | None) -> float:
        doubt = 0.5 if uncertainty is None else float(uncertainty)
        if not (math.isfinite(doubt) and 0.0 <= doubt <= 1.0):
            raise DataError(
                f"uncertainty of {str(row.input)[:40]!r} is {doubt}; it must lie in [0, 1]: 1 - confidence does"
            )
        return weighted(ticket.number, _BASE + doubt)

    def _note_again(self, ticket: Ticket, extra: Any) -> float:
        return float(extra)

    def _extra(self, note: float) -> Any:
        return note
