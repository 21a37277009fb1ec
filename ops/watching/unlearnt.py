"""The labels that a champion has not learnt, followed as they come: what is known of them is not read again."""

import threading
from array import array
from bisect import bisect_right
from datetime import UTC, datetime
from typing import Protocol

from perennial.continual.records import Example, Split
from perennial.ops.ledger.ports import ExampleCounts, Examples
from perennial.ops.prediction_ids import id_time_us

__all__ = ["UnlearntLabels", "asked_at"]

_PAGE = 2_000


class UnlearntLedger(ExampleCounts, Examples, Protocol):
    """Where the labels are."""


class UnlearntLabels:
    """Training examples behind one id. Safe to share between threads.

    What was overruled or erased shows in the counts of the ledger; then all of them are read anew.
    """

    def __init__(self, ledger: UnlearntLedger, model: str, since_id: int) -> None:
        self._ledger, self._model, self.since_id = ledger, model, since_id
        self._guard = threading.Lock()
        self._ids, self._asked_us = array("q"), array("q")
        self._counted: tuple[int, int] | None = None
        self._last = -1

    def follow(self) -> None:
        """Read those that came since the last time."""
        with self._guard:
            last, counted = self._ledger.last_example_id(self._model), self._counts()
            if (last, counted) == (self._last, self._counted):
                return
            before = len(self._ids)
            self._read_on()
            grown = len(self._ids) - before
            if self._counted is None or (self._counted[0] + grown, self._counted[1]) != counted:
                self._ids, self._asked_us = array("q"), array("q")
                counted = self._counts()  # before the rows: one that comes between is read again the next time
                self._read_on()
            self._last, self._counted = last, counted

    def __len__(self) -> int:
        return len(self._ids)

    def until(self, last_id: int) -> int:
        """How many have ids up to this one."""
        return bisect_right(self._ids, last_id)

    def asked_after(self, moment: datetime) -> int:
        """How many belong to requests that were answered after a moment."""
        moment_us = int(moment.timestamp() * 1e6)
        return sum(asked_us > moment_us for asked_us in self._asked_us)

    def _counts(self) -> tuple[int, int]:
        training = self._ledger.example_count(self._model, Split.TRAIN)
        return training, self._ledger.contradiction_count(self._model)

    def _read_on(self) -> None:
        last = self._ids[-1] if self._ids else self.since_id
        while page := self._ledger.examples(self._model, split=Split.TRAIN, since_id=last, limit=_PAGE):
            last = page[-1].id
            self._ids.extend(row.id for row in page)
            self._asked_us.extend(int(asked_at(row.example).timestamp() * 1e6) for row in page)


def asked_at(example: Example) -> datetime:
    """When the labelled request was answered; for a text that came without a request, when it was labelled."""
    asked_us = None if example.prediction_id is None else id_time_us(example.prediction_id)
    return example.at if asked_us is None else datetime.fromtimestamp(asked_us / 1e6, UTC)
