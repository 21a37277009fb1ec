"""Questions at a steady pace, and what becomes known of the answers a little later; for a model of any task."""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import httpx

from perennial.continual.tasks import DEFAULT_TASK
from perennial.ops.demo.looking import Looking
from perennial.ops.serving.client import PerennialClient

__all__ = ["Asking", "FeedbackPost", "Paced", "PacedStream", "Sent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One question of the world: what the client sends, what would be right, and how far the world had changed."""

    asked: Any
    truth: Any
    wave: int
    key: str


@dataclass(slots=True, kw_only=True)
class Sent:
    """One question and what became of it; `version` is 0 when it failed."""

    number: int
    asking: Asking
    sent_at: datetime
    answer: Any = None
    latency_ms: float = 0.0
    version: int = 0
    prediction_id: str = ""
    error: str = ""


_LOOK_S, _MOST_ROWS = 0.25, 500  # between two posts, and of one
_AT_ONCE_S = 30.0  # for a post that the next question waits for
T = TypeVar("T")  # one question and what became of it


@dataclass(kw_only=True)
class Paced(Generic[T]):
    """Asks at a steady pace through several clients, whatever the server does.

    One question is drawn at a time. `on_answer` is told of each, answered or failed, by several threads.
    """

    url: str
    model: str
    rate: float
    on_answer: Callable[[T], None]
    task: str = DEFAULT_TASK
    clients: int = 2
    answered: list[T] = field(default_factory=list)  # or failed, in the order of the answers
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _drawn: int = 0
    _started: float = 0.0

    def start(self) -> None:
        """Begin to ask."""
        self._started = time.perf_counter()
        for index in range(self.clients):
            thread = threading.Thread(target=self._work, name=f"client-{index}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End after the questions under way; calling it again does nothing."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    @property
    def asked(self) -> int:
        """Questions so far."""
        return self._drawn

    def since(self, place: int) -> list[T]:
        """What was answered, or failed, from this place on, in the order of the answers."""
        with self._lock:
            return self.answered[place:]

    def drawn(self, number: int) -> T:
        """The next question."""
        raise NotImplementedError

    def ask(self, client: PerennialClient, question: T, at_s: float) -> None:
        """Ask it, `at_s` after the start, and note what became of it; no error is raised for one that failed."""
        raise NotImplementedError

    def failed_with(self, exc: Exception) -> str:
        """What a request is said to have failed with; the next one waits a moment."""
        self._stop.wait(0.05)
        return f"{type(exc).__name__}: {exc}"

    def _work(self) -> None:
        with PerennialClient(self.url, self.model, task=self.task) as client:
            while not self._stop.is_set():
                with self._lock:
                    number, self._drawn = self._drawn, self._drawn + 1
                    question = self.drawn(number)
                wait = self._started + number / self.rate - time.perf_counter()
                if wait > 0 and self._stop.wait(wait):
                    return
                self.ask(client, question, time.perf_counter() - self._started)
                with self._lock:
                    self.answered.append(question)
                self.on_answer(question)


@dataclass(kw_only=True)
class PacedStream(Paced[Sent]):
    """Asks what `draw` gives, of a model of any task."""

    draw: Callable[[], Asking]

    def drawn(self, number: int) -> Sent:
        """What the world asks next."""
        return Sent(number=number, asking=self.draw(), sent_at=datetime.now(UTC))

    def ask(self, client: PerennialClient, question: Sent, at_s: float) -> None:
        """Ask it and keep the whole answer."""
        question.sent_at, started = datetime.now(UTC), time.perf_counter()
        try:
            (answer,) = client.predict([question.asking.asked], keys=[question.asking.key])
        except Exception as exc:  # whatever the client raises, the request has failed and is counted
            question.error = self.failed_with(exc)
        else:
            question.answer, question.version, question.prediction_id = answer, answer.version, answer.prediction_id
        question.latency_ms = 1e3 * (time.perf_counter() - started)


class FeedbackPost(Looking):
    """Posts what became known to a route of the control API, late, in batches; what could not be posted waits.

    Args:
        url: of the control API.
        path: of the route, e.g. `/v1/signals`.
        model: whose feedback it is.
        many: the field of the body that holds the rows.
        delay_s: how long each row waits.
        posted: told of the rows that were taken.
    """

    def __init__(
        self,
        url: str,
        path: str,
        model: str,
        *,
        many: str,
        delay_s: float,
        posted: Callable[[Sequence[Mapping[str, Any]]], None] | None = None,
    ) -> None:
        super().__init__(url, name="feedback", every_s=_LOOK_S)
        self._path, self._model, self._many, self._delay_s = path, model, many, delay_s
        self._told = posted
        self._waiting: queue.SimpleQueue[tuple[float, Mapping[str, Any]]] = queue.SimpleQueue()
        self._due: list[tuple[float, Mapping[str, Any]]] = []
        self.delivered = 0

    def offer(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Post these rows once their time has come."""
        for row in rows:
            self._waiting.put((time.monotonic() + self._delay_s, row))

    def post_now(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Post these rows before anything else happens; what could not be posted waits as all others do."""
        with httpx.Client(base_url=self._url, timeout=_AT_ONCE_S) as http:
            if rows and not self._posted(http, rows):
                self.offer(rows)

    def look(self, http: httpx.Client) -> None:
        """Post what is due."""
        while not self._waiting.empty():
            self._due.append(self._waiting.get())
        now = time.monotonic()
        ripe = [row for at, row in self._due if at <= now][:_MOST_ROWS]
        if ripe and self._posted(http, ripe):
            gone = {id(row) for row in ripe}
            self._due = [pair for pair in self._due if id(pair[1]) not in gone]

    def _posted(self, http: httpx.Client, rows: Sequence[Mapping[str, Any]]) -> bool:
        try:
            http.post(self._path, json={"model": self._model, self._many: list(rows)}).raise_for_status()
        except httpx.HTTPError:
            return False  # the rows stay on the list
        self.delivered += len(rows)
        if self._told is not None:
            self._told(rows)
        return True
