"""A uniform sample of everything offered."""

from perennial.continual.replay.port import BufferKind, R
from perennial.continual.replay.ranked import RankedBuffer

__all__ = ["ReservoirBuffer"]


class ReservoirBuffer(RankedBuffer[R]):
    """Keeps each different row with the same probability, capacity over rows offered.

    Under a byte budget a group of long rows gives a smaller sample, never a less uniform one.
    Source: bottom-k sampling, see `continual.replay.lottery`; the same law as Vitter's algorithm R (TOMS 11(1), 1985).

    >>> from datetime import datetime, timezone
    >>> from perennial.continual.records import Example
    >>> buffer = ReservoirBuffer(capacity=2, seed=7)
    >>> at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    >>> for n in range(100):
    ...     _ = buffer.offer(Example(text=f"text {n}", label="a", at=at))
    >>> len(buffer), buffer.seen
    (2, 100)
    """

    kind = BufferKind.RESERVOIR

    def _group(self, row: R) -> str:
        return ""
