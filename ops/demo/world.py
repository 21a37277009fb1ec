"""The customers: a stream of requests that changes, answered over gRPC, some of it labelled later."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from perennial.ops.demo.data import DemoData, Row
from perennial.ops.demo.paced import FeedbackPost, Paced
from perennial.ops.serving.client import PerennialClient

__all__ = ["Answered", "Labeller", "Source", "Stream"]


@dataclass(slots=True, kw_only=True)
class Answered:
    """One request and what became of it. `at_s` counts from the stream's start; `version` is 0 when it failed.

    `labelled_at` is when its true label was delivered.
    """

    number: int
    wave: int
    text: str
    label: str
    sent_at: datetime
    at_s: float
    latency_ms: float = 0.0
    answer: str = ""
    confidence: float = 0.0
    version: int = 0
    prediction_id: str = ""
    error: str = ""
    labelled_at: datetime | None = None


class Source:
    """Draws the next request: known intents, and the newest wave's share while it is new.

    Pools are walked in order and begin again when they are used up, so that a text repeats as late as possible.
    """

    def __init__(self, data: DemoData, seed: int) -> None:
        self._data = data
        self._rng = np.random.default_rng(seed)
        self._pools: list[Sequence[Row]] = [data.steady, *(wave.pool for wave in data.waves)]
        self._used = [0] * len(self._pools)
        self.wave = 0
        self.settled = False  # every pool arrives in proportion to what is left of it

    def draw(self) -> Row:
        """The next text with its true label."""
        pool = self._settled_pool() if self.settled else self._pool()
        row = self._pools[pool][self._used[pool] % len(self._pools[pool])]
        self._used[pool] += 1
        return row

    def left(self) -> int:
        """Rows of the arrived pools that were not sent yet."""
        return sum(self._left(i) for i in range(self.wave + 1))

    def _left(self, pool: int) -> int:
        return max(0, len(self._pools[pool]) - self._used[pool])

    def _settled_pool(self) -> int:
        weights = np.asarray([self._left(i) for i in range(self.wave + 1)], dtype=np.float64)
        if not weights.sum():
            weights = np.asarray([len(self._pools[i]) for i in range(self.wave + 1)], dtype=np.float64)
        return int(self._rng.choice(len(weights), p=weights / weights.sum()))

    def _pool(self) -> int:
        if self.wave == 0:
            return 0
        if self._rng.random() < self._data.waves[self.wave - 1].share:
            return self.wave
        weights = np.asarray([len(self._pools[i]) for i in range(self.wave)], dtype=np.float64)
        return int(self._rng.choice(self.wave, p=weights / weights.sum()))


@dataclass(kw_only=True)
class Stream(Paced[Answered]):
    """Sends the source's requests to a classifier."""

    source: Source

    @property
    def failed(self) -> int:
        """Requests without an answer so far."""
        return sum(1 for a in self.since(0) if a.error)

    def drawn(self, number: int) -> Answered:
        """The source's next request."""
        text, label = self.source.draw()
        return Answered(
            number=number,
            wave=self.source.wave,
            text=text,
            label=label,
            sent_at=datetime.now(UTC),
            at_s=number / self.rate,
        )

    def ask(self, client: PerennialClient, question: Answered, at_s: float) -> None:
        """Ask it and keep the label."""
        question.sent_at, question.at_s, started = datetime.now(UTC), at_s, time.perf_counter()
        try:
            answer = client.predict([question.text], keys=[f"customer-{question.number % 997}"])[0]
        except Exception as exc:  # whatever the client raises, the request has failed and is counted
            question.error = self.failed_with(exc)
        else:
            question.answer, question.confidence = answer.label, answer.confidence
            question.version, question.prediction_id = answer.version, answer.prediction_id
        question.latency_ms = 1e3 * (time.perf_counter() - started)


class Labeller(FeedbackPost):
    """Delivers the true label of a share of the answers, late, in batches; what could not be delivered waits."""

    def __init__(self, url: str, model: str, *, share: float, delay_s: float, seed: int) -> None:
        super().__init__(url, "/v1/feedback", model, many="labels", delay_s=delay_s, posted=self._labelled)
        self._share, self._rng = share, np.random.default_rng(seed)
        self._answers: dict[str, Answered] = {}  # that wait, by their prediction ids

    def consider(self, answered: Answered) -> None:
        """Perhaps label this answer later."""
        if answered.prediction_id and self._rng.random() < self._share:
            self._answers[answered.prediction_id] = answered
            self.offer([{"prediction_id": answered.prediction_id, "label": answered.label}])

    def _labelled(self, rows: Sequence[Mapping[str, Any]]) -> None:
        now = datetime.now(UTC)
        for row in rows:
            self._answers.pop(row["prediction_id"]).labelled_at = now
