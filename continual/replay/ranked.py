"""Keep the rows with the highest priorities in each group, the groups as equal in size as their rows allow."""

import heapq
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from perennial.continual.replay.largest import LargestGroup
from perennial.continual.replay.lottery import Ticket
from perennial.continual.replay.port import R
from perennial.continual.replay.slots import SlottedBuffer
from perennial.continual.task import AnyTask

__all__ = ["RankedBuffer"]


class RankedBuffer(SlottedBuffer[R, float]):
    """Base of the buffers whose rule is a priority a row.

    When full, the lowest priority of the largest group leaves, and the group's floor rises to it: a row below its
    group's floor never enters, so no row is favoured for coming late, and what a small group can't use others have.
    Without a byte budget, corrected targets and erasures the kept rows are a function of the set of offered rows:
    their order, repetitions and restarts do not matter. A rejection costs O(1), an insertion O(log rows).

    An erasure leaves free places; they fill with coming rows above the floors, so that the sample stays fair.
    """

    def __init__(
        self, *, capacity: int, seed: int = 0, byte_budget: int | None = None, task: AnyTask | None = None
    ) -> None:
        super().__init__(capacity=capacity, seed=seed, byte_budget=byte_budget, task=task)
        self._heaps: dict[str, list[tuple[float, bytes]]] = {}
        self._floors: dict[str, float] = {}
        self._largest = LargestGroup()

    @abstractmethod
    def _group(self, row: R) -> str:
        """Return the group whose rows this one competes with."""

    def _note(self, row: R, ticket: Ticket, uncertainty: float | None, embedding: Sequence[float] | None) -> float:
        return ticket.number

    def _note_again(self, ticket: Ticket, extra: Any) -> float:
        return ticket.number

    def _wants(self, row: R, note: float) -> bool:
        floor = self._floors.get(self._group(row))
        return floor is None or note > floor

    def _entered(self, slot: int) -> None:
        group = self._group(self._rows[slot])
        heap = self._heaps.setdefault(group, [])
        heapq.heappush(heap, (self._notes[slot], self._tickets[slot].identity))
        self._largest.put(group, len(heap), heap[0][0])

    def _leaving(self, slot: int) -> None:
        group = self._group(self._rows[slot])
        heap = self._heaps[group]
        entry = (self._notes[slot], self._tickets[slot].identity)
        if heap[0] == entry:
            heapq.heappop(heap)
        else:
            heap.remove(entry)
            heapq.heapify(heap)
        if heap:
            self._largest.put(group, len(heap), heap[0][0])
        else:
            del self._heaps[group]
            self._largest.put(group, 0, 0.0)

    def _victim(self) -> int:
        group = self._largest.top()
        priority, identity = self._heaps[group][0]
        self._floors[group] = priority
        return self._slots[identity]

    def _counters(self) -> dict[str, Any]:
        return {"floors": dict(self._floors)}

    def _resume(self, counters: dict[str, Any]) -> None:
        self._floors = {str(group): float(floor) for group, floor in counters["floors"].items()}
