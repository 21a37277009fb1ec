"""Which group is the largest right now, kept up to date in O(log groups) a change."""

import heapq

__all__ = ["LargestGroup"]


class LargestGroup:
    """Groups with their sizes; among the largest, the one with the lowest rank comes first.

    >>> groups = LargestGroup()
    >>> groups.put("a", 2, 0.5); groups.put("b", 2, 0.1); groups.put("c", 1, 0.0)
    >>> groups.top()
    'b'
    """

    def __init__(self) -> None:
        self._now: dict[str, tuple[int, float]] = {}
        self._heap: list[tuple[int, float, str]] = []  # stale entries are skipped when they come up

    def put(self, group: str, size: int, rank: float) -> None:
        """State a group's size and rank; size 0 removes it."""
        if size == 0:
            self._now.pop(group, None)
            return
        self._now[group] = (size, rank)
        heapq.heappush(self._heap, (-size, rank, group))
        if len(self._heap) > 8 * len(self._now) + 64:
            self._heap = [(-size, rank, name) for name, (size, rank) in self._now.items()]
            heapq.heapify(self._heap)

    def top(self) -> str:
        """Return the largest group; the caller has put at least one."""
        while True:
            negative, rank, group = self._heap[0]
            if self._now.get(group) == (-negative, rank):
                return group
            heapq.heappop(self._heap)
