"""The same number of rows of every class, as far as the classes have them."""

from perennial.continual.replay.port import BufferKind, R
from perennial.continual.replay.ranked import RankedBuffer

__all__ = ["ClassBalancedBuffer"]


class ClassBalancedBuffer(RankedBuffer[R]):
    """Shares the capacity equally between the classes seen; what a small class can't fill, the others have.

    The classes are the task's strata. Within a class the kept rows are a uniform sample of it. The full classes differ
    by at most one row.
    Source: the greedy sampler of GDumb (Prabhu et al., ECCV 2020), made fair to early rows by floors.

    >>> from datetime import datetime, timezone
    >>> from perennial.continual.records import Example
    >>> buffer = ClassBalancedBuffer(capacity=10, seed=7)
    >>> at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    >>> for n in range(100):
    ...     _ = buffer.offer(Example(text=f"text {n}", label="rare" if n in (3, 4) else "common", at=at))
    >>> sorted(row.label for row in buffer.rows()).count("rare"), len(buffer)
    (2, 10)
    """

    kind = BufferKind.CLASS_BALANCED

    def _group(self, row: R) -> str:
        return self._task.stratum(row)
