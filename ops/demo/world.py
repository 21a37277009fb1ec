"""The customers: a stream of requests that changes, answered over gRPC, some of it labelled later."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np

from perennial.ops.demo.data import DemoData, Row
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
class Stream:
    """Sends requests at a steady pace through several clients, whatever the server does."""

    url: str
    model: str
    source: Source
    rate: float
    clients: int
    on_answer: Callable[[Answered], None]
    answered: list[Answered] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sent: int = 0
    _started: float = 0.0

    def start(self) -> None:
        """Begin to send."""
        self._started = time.perf_counter()
        for index in range(self.clients):
            thread = threading.Thread(target=self._work, name=f"client-{index}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End after the requests under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    @property
    def sent(self) -> int:
        """Requests sent so far."""
        return self._sent

    @property
    def failed(self) -> int:
        """Requests without an answer so far."""
        with self._lock:
            return sum(1 for a in self.answered if a.error)

    def since(self, number: int) -> list[Answered]:
        """Answers from place `number` of the list on."""
        with self._lock:
            return self.answered[number:]

    def _work(self) -> None:
        client = PerennialClient(self.url, self.model)
        try:
            while not self._stop.is_set():
                request = self._next()
                wait = self._started + request.number / self.rate - time.perf_counter()
                if wait > 0 and self._stop.wait(wait):
                    return
                self._ask(client, request)
                with self._lock:
                    self.answered.append(request)
                self.on_answer(request)
        finally:
            client.close()

    def _next(self) -> Answered:
        with self._lock:
            number = self._sent
            self._sent += 1
            text, label = self.source.draw()
            at_s = number / self.rate
            return Answered(
                number=number, wave=self.source.wave, text=text, label=label, sent_at=datetime.now(UTC), at_s=at_s
            )

    def _ask(self, client: PerennialClient, request: Answered) -> None:
        request.sent_at = datetime.now(UTC)
        started = time.perf_counter()
        request.at_s = started - self._started
        try:
            answer = client.predict([request.text], keys=[f"customer-{request.number % 997}"])[0]
        except Exception as exc:  # whatever the client raises, the request has failed and is counted
            request.error = f"{type(exc).__name__}: {exc}"
            self._stop.wait(0.05)
        else:
            request.answer, request.confidence = answer.label, answer.confidence
            request.version, request.prediction_id = answer.version, answer.prediction_id
        request.latency_ms = 1e3 * (time.perf_counter() - started)


class Labeller:
    """Delivers the true label of a share of the answers, late, in batches; what could not be delivered waits."""

    def __init__(self, url: str, model: str, *, share: float, delay_s: float, seed: int) -> None:
        self._url, self._model, self._share, self._delay_s = url, model, share, delay_s
        self._rng = np.random.default_rng(seed)
        self._waiting: queue.SimpleQueue[tuple[float, Answered]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="labeller", daemon=True)
        self.delivered = 0

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """Deliver what is due and end."""
        self._stop.set()
        self._thread.join(timeout=30)

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._thread.is_alive()

    def offer(self, answered: Answered) -> None:
        """Perhaps label this answer later."""
        if answered.prediction_id and self._rng.random() < self._share:
            self._waiting.put((time.monotonic() + self._delay_s, answered))

    def _work(self) -> None:
        due: list[tuple[float, Answered]] = []
        with httpx.Client(base_url=self._url, timeout=10) as http:
            while not self._stop.is_set():
                while not self._waiting.empty():
                    due.append(self._waiting.get())
                ripe = [pair for pair in due if pair[0] <= time.monotonic()][:500]
                if ripe and self._deliver(http, [answered for _, answered in ripe]):
                    gone = {id(pair) for pair in ripe}
                    due = [pair for pair in due if id(pair) not in gone]
                self._stop.wait(0.5)

    def _deliver(self, http: httpx.Client, answers: Sequence[Answered]) -> bool:
        labels: list[dict[str, Any]] = [{"prediction_id": a.prediction_id, "label": a.label} for a in answers]
        try:
            response = http.post("/v1/feedback", json={"model": self._model, "labels": labels})
            response.raise_for_status()
        except httpx.HTTPError:
            return False  # the labels stay on the list
        now = datetime.now(UTC)
        for answered in answers:
            answered.labelled_at = now
        self.delivered += len(labels)
        return True
