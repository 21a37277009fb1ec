"""What the router backend does with questions: pick versions, ask their engines, log, answer. A task says how."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from perennial.continual.errors import ConfigurationError, DependencyUnreachable, PerennialError
from perennial.continual.records import Arm, Route
from perennial.continual.tasks import DEFAULT_TASK, STREAMED
from perennial.exporters.batches import joined, row_count
from perennial.exporters.engine import Inputs, Outputs
from perennial.ops.serving.port import Answer, Given, ServingSide
from perennial.ops.serving.router.answer_cache import AnswerCache
from perennial.ops.serving.router.answer_log import AnswerLog, LogFigures, answer_columns
from perennial.ops.serving.router.questions import Question, prediction_id
from perennial.ops.serving.router.route import RouteFile, pick_arm
from perennial.ops.serving.router.version_guard import VersionGuard
from perennial.ops.serving.router.versions import VersionSides
from perennial.ops.serving.writing import write
from perennial.ops.traffic import LostRowsCount

__all__ = ["CHALLENGER_PAUSE_S", "Answered", "Batch", "Placed", "Router", "RouterSettings"]

logger = logging.getLogger(__name__)
CHALLENGER_PAUSE_S = 5.0  # how long one that failed or hung is left alone
_TOKENS = 16  # of an answer that is written, in one call of an engine
_PART_CELLS = 16_384  # of an input in one call of an engine, padding included
_CHAMPION_PAUSE_S = 30.0  # one that hung; one that refuses a question must not lose the requests of the next seconds

AskEngine = Callable[[int, Inputs], Outputs]


class _Log(Protocol):
    def append(self, columns: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """The router's parameters in `config.pbtxt`.

    `max_characters` are kept of each string that is asked. A challenger that takes longer than
    `challenger_limit_s` is answered for by the champion; a champion that takes longer than `champion_limit_s` by the
    one before it, while that one is loaded. A request that would wait longer than `queue_limit_s`, or behind more than
    `queue_rows` rows, is refused. `cache_rows` answers are kept for those who ask the same again.
    """

    model: str
    engine_model: str
    route_path: Path
    repository: Path
    traffic_dir: Path
    task: str = DEFAULT_TASK
    memory_path: Path | None = None
    max_characters: int = 20_000
    max_key_bytes: int = 256
    rotate_rows: int = 5_000
    rotate_s: float = 60.0
    challenger_limit_s: float = 1.0
    champion_limit_s: float = 10.0
    queue_limit_s: float = 10.0
    queue_rows: int = 8_192
    max_batch_size: int = 64
    cache_rows: int = 0

    @classmethod
    def from_parameters(cls, model: str, parameters: Mapping[str, str]) -> "RouterSettings":
        """Read the strings that Triton passes on.

        Raises:
            ConfigurationError: one is missing or no number.
        """
        try:
            return cls(
                model=model,
                engine_model=parameters["engine_model"],
                route_path=Path(parameters["route_path"]),
                repository=Path(parameters["repository"]),
                traffic_dir=Path(parameters["traffic_dir"]),
                task=parameters.get("task", DEFAULT_TASK),
                memory_path=Path(parameters["memory_path"]) if "memory_path" in parameters else None,
                max_characters=int(parameters.get("max_characters", "20000")),
                max_key_bytes=int(parameters.get("max_key_bytes", "256")),
                rotate_rows=int(parameters.get("rotate_rows", "5000")),
                rotate_s=float(parameters.get("rotate_s", "60")),
                challenger_limit_s=float(parameters.get("challenger_limit_s", "1")),
                champion_limit_s=float(parameters.get("champion_limit_s", "10")),
                queue_limit_s=float(parameters.get("queue_limit_s", "10")),
                queue_rows=int(parameters.get("queue_rows", "8192")),
                max_batch_size=int(parameters.get("max_batch_size", "64")),
                cache_rows=int(parameters.get("cache_rows", "0")),
            )
        except (KeyError, ValueError) as exc:
            raise ConfigurationError(f"router {model}: parameter {exc} in config.pbtxt is missing or wrong") from exc

    def to_parameters(self) -> dict[str, str]:
        """The strings for `config.pbtxt`; paths absolute, because Triton has its own working folder."""
        memory = {} if self.memory_path is None else {"memory_path": str(self.memory_path.resolve())}
        return memory | {
            "engine_model": self.engine_model,
            "route_path": str(self.route_path.resolve()),
            "repository": str(self.repository.resolve()),
            "traffic_dir": str(self.traffic_dir.resolve()),
            "task": self.task,
            "max_characters": str(self.max_characters),
            "max_key_bytes": str(self.max_key_bytes),
            "rotate_rows": str(self.rotate_rows),
            "rotate_s": str(self.rotate_s),
            "challenger_limit_s": str(self.challenger_limit_s),
            "champion_limit_s": str(self.champion_limit_s),
            "queue_limit_s": str(self.queue_limit_s),
            "queue_rows": str(self.queue_rows),
            "max_batch_size": str(self.max_batch_size),
            "cache_rows": str(self.cache_rows),
        }


class Placed(NamedTuple):
    """One question, numbered and on its side of the route."""

    input: Any
    key: str
    prediction_id: str
    arm: Arm
    logged: bool
    deadline: float | None = None
    gone: Callable[[], bool] | None = None

    def is_wanted(self, now: float) -> bool:
        """Whether somebody still waits; once nobody does, nobody ever will."""
        in_time = self.deadline is None or now < self.deadline
        return in_time and not (self.gone is not None and self.gone())


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Questions that came together, and the route that was in force."""

    route: Route
    at_us: int
    rows: tuple[Placed, ...]

    def part(self, rows: Sequence[int]) -> "Batch":
        """Some of the rows, in this order."""
        return Batch(route=self.route, at_us=self.at_us, rows=tuple(self.rows[index] for index in rows))


class Answered(NamedTuple):
    """One answered question."""

    placed: Placed
    answer: Answer
    arm: Arm  # who answered: `fallback` is another version in place of the one that should have and did not
    version: int
    took_ms: float  # the version's own time, without what another version took first
    late: bool = False  # it came after its deadline, or its caller went away: it is not logged and not to be sent

    @property
    def prediction_id(self) -> str:
        """The id that a label refers to later."""
        return self.placed.prediction_id


class Router:
    """Answers batches of questions by the route. `ask_engine(version, inputs)` gives an engine's outputs or raises.

    `answer` may be called from several threads at once. An answer that is written is asked for a few tokens at a time,
    until nobody waits for it any more; with `in_pieces`, `ask_engine` sees to that itself.
    """

    def __init__(
        self,
        settings: RouterSettings,
        side: ServingSide,
        log: _Log,
        ask_engine: AskEngine,
        *,
        count: LostRowsCount | None = None,
        in_pieces: bool = False,
    ) -> None:
        self._settings, self._side, self._ask = settings, side, ask_engine
        self._writes = settings.task in STREAMED and not in_pieces
        self._log = AnswerLog(log, count=count, long=side.input_columns)
        self._challengers = VersionGuard(
            limit_s=settings.challenger_limit_s, pause_s=CHALLENGER_PAUSE_S, hang_pause_s=CHALLENGER_PAUSE_S
        )
        self._champions = VersionGuard(limit_s=settings.champion_limit_s, pause_s=0.0, hang_pause_s=_CHAMPION_PAUSE_S)
        self._memory = side.memory(settings.memory_path)
        self._cache = AnswerCache(0 if side.remembers else settings.cache_rows)
        self._route_file = RouteFile(settings.route_path)
        self._versions = VersionSides(side, settings.repository / settings.engine_model)
        self._route: Route | None = None
        self._substituted = False

    @property
    def substituted(self) -> bool:
        """Whether the version before the champion gave the last answer that was the champion's to give."""
        return self._substituted

    @property
    def log_figures(self) -> LogFigures:
        """What became of the rows for the traffic log."""
        return self._log.figures

    @property
    def repeated(self) -> int:
        """Answers that were given again without asking an engine."""
        return self._cache.found

    @property
    def unremembered(self) -> int:
        """Questions that were answered without what is remembered of who asks, because it could not be read."""
        return self._memory.unread

    def forget_old(self) -> None:
        """Let go of answers that have been kept for long enough; call it now and then."""
        self._cache.forget_old()

    def close(self) -> None:
        """Write what a full disk had refused, where it has space again."""
        self._log.close()

    def warm(self) -> None:
        """Read the route and the champion's side, where there are any yet."""
        try:
            self._versions.get(self._current().champion)
        except PerennialError as exc:
            logger.info("router.unrouted", extra={"model": self._settings.model, "reason": str(exc)})

    def place(self, questions: Sequence[Question]) -> Batch:
        """Number the questions, recall who asks, and choose each one's side of the route.

        Raises:
            NotFound: there is no route yet.
        """
        route = self._current()
        recalled = self._memory.recalled([question.input for question in questions])
        at_us = time.time_ns() // 1000
        rows = []
        for question, asked in zip(questions, recalled, strict=True):
            number = prediction_id(at_us)
            rows.append(
                Placed(
                    input=asked,
                    key=question.key,
                    prediction_id=number,
                    arm=pick_arm(route, question.key or number),
                    logged=question.logged,
                    deadline=question.deadline,
                    gone=question.gone,
                )
            )
        return Batch(route=route, at_us=at_us, rows=tuple(rows))

    def answer(self, batch: Batch, *, alone: bool = True) -> list[Answered]:
        """One answer a row, in order, logged before this returns as far as the disk allows, but for late ones.

        Rows whose challenger fails or takes too long are answered by the champion, and where the champion does by the
        one before it, as long as that one is loaded. Without `alone` the champion's failure is raised instead: the
        batch has several callers, and what spoilt it may be one caller's question.

        Raises:
            NotFound: the champion's folder is gone.
            PerennialError: the champion's engine failed.
        """
        started = time.perf_counter()
        found: dict[int, Answered] = {}
        left = list(range(len(batch.rows)))
        if tried := [index for index in left if batch.rows[index].arm is Arm.CHALLENGER]:
            found.update(self._ask_challenger(batch, tried))
            left = [index for index in left if index not in found]
        if left:
            found.update(self._ask_champion(batch, left, alone=alone))
        now = time.monotonic()
        answers = self._noted(batch, [_in_time(found[index], now) for index in range(len(batch.rows))])
        latency_ms = (time.perf_counter() - started) * 1000.0
        logged = [answer for answer in answers if answer.placed.logged and not answer.late]
        self._write(batch, logged, latency_ms)
        return answers

    def _noted(self, batch: Batch, answers: list[Answered]) -> list[Answered]:
        """The answers with what they mean beside earlier ones; those that nobody gets are not remembered."""
        kept = [place for place, answer in enumerate(answers) if answer.placed.logged and not answer.late]
        at = datetime.fromtimestamp(batch.at_us / 1e6, UTC)
        given = [
            Given(row.placed.input, row.placed.key, row.placed.prediction_id, at, row.answer)
            for row in (answers[place] for place in kept)
        ]
        for place, answer in zip(kept, self._memory.noted(given), strict=True):
            answers[place] = answers[place]._replace(answer=answer)
        return answers

    def _write(self, batch: Batch, answers: Sequence[Answered], latency_ms: float) -> None:
        """Log the answers; the one place where an answer meets its bookkeeping, which can never fail it."""
        if not answers:
            return
        try:
            self._log.write(answer_columns(self._side, answers, at_us=batch.at_us, latency_ms=latency_ms))
        except Exception:
            logger.exception("traffic.not_handed_over", extra={"rows": len(answers)})

    def _current(self) -> Route:
        route = self._route_file.current()
        if route is not self._route:
            self._route = route
            self._versions.prepare(route.resident)
            logger.info("route.changed", extra={"model": route.model, "epoch": route.epoch, "champion": route.champion})
        return route

    def _ask_challenger(self, batch: Batch, rows: Sequence[int]) -> dict[int, Answered]:
        version = batch.route.challenger
        if version is None:
            return {}
        try:
            return self._answer_rows(batch, version, rows, self._within(self._challengers))
        except Exception as exc:  # whatever a challenger does, its callers get an answer
            logger.warning("challenger.failed", extra={"version": version, "rows": len(rows), "reason": str(exc)})
            return {}

    def _ask_champion(self, batch: Batch, rows: Sequence[int], *, alone: bool) -> dict[int, Answered]:
        route = batch.route
        if route.previous is None:  # nobody to answer in its place
            return self._answer_rows(batch, route.champion, rows, self._ask)
        try:
            return self._answer_rows(batch, route.champion, rows, self._within(self._champions))
        except PerennialError as exc:
            if not alone:
                raise
            logger.warning("champion.failed", extra={"version": route.champion, "rows": len(rows), "reason": str(exc)})
            try:
                found = self._answer_rows(batch, route.previous, rows, self._ask)
                self._substituted = True
                return found
            except PerennialError as second:
                logger.warning("previous.failed", extra={"version": route.previous, "reason": str(second)})
                raise exc from second

    def _within(self, guard: VersionGuard) -> AskEngine:
        return lambda version, inputs: guard.ask(version, lambda: self._ask(version, inputs))

    def _answer_rows(self, batch: Batch, version: int, rows: Sequence[int], ask: AskEngine) -> dict[int, Answered]:
        started = time.perf_counter()
        known = self._repeated(batch, version, rows)
        left = [index for index in rows if index not in known]
        answers = known | (self._computed(batch, version, left, ask) if left else {})
        took_ms = (time.perf_counter() - started) * 1000.0
        return {
            index: Answered(
                placed=batch.rows[index],
                answer=answers[index],
                arm=_answering_arm(batch.route, batch.rows[index], version),
                version=version,
                took_ms=took_ms,
            )
            for index in rows
        }

    def _repeated(self, batch: Batch, version: int, rows: Sequence[int]) -> dict[int, Answer]:
        """What the version answered a moment ago; a probe asks the engine itself."""
        found = {index: self._cache.get(version, batch.rows[index].input) for index in rows if batch.rows[index].logged}
        return {index: answer for index, answer in found.items() if answer is not None}

    def _computed(self, batch: Batch, version: int, rows: Sequence[int], ask: AskEngine) -> dict[int, Answer]:
        side = self._versions.get(version)
        task_inputs = [batch.rows[index].input for index in rows]
        inputs = side.encode(task_inputs)
        if self._writes:
            placed = [batch.rows[index] for index in rows]
            outputs = _written(ask, version, inputs, placed, limit_s=self._settings.champion_limit_s)
        else:
            outputs = _in_parts(ask, version, inputs, self._settings.max_batch_size)
        if misfit := side.signature.misfit(outputs, row_count(inputs)):
            raise DependencyUnreachable(  # no caller's mistake
                f"engine {self._settings.engine_model} version {version} gave {misfit}; roll back to another version"
            )
        answers = dict(zip(rows, side.answers(task_inputs, inputs, outputs), strict=True))
        if version == batch.route.champion:  # itself: what is kept of it proves nothing of its engine
            self._substituted = False
        now = time.monotonic()
        for index, answer in answers.items():
            if not self._writes or batch.rows[index].is_wanted(now):  # else it may lack its end
                self._cache.keep(version, batch.rows[index].input, answer)
        return answers


def _in_parts(ask: AskEngine, version: int, inputs: Inputs, most_rows: int) -> Outputs:
    """One call where the rows are few or short; more of them otherwise, so that something comes out now and then."""
    count, cells = row_count(inputs), max([array.size for array in inputs.values()])
    if (cells <= _PART_CELLS and count <= most_rows) or count == 1:
        return ask(version, inputs)
    rows = min(most_rows, max(1, _PART_CELLS * count // max(1, cells)))
    parts = [
        ask(version, {name: array[start : start + rows] for name, array in inputs.items()})
        for start in range(0, count, rows)
    ]
    return joined(parts)


def _written(ask: AskEngine, version: int, inputs: Inputs, placed: Sequence[Placed], *, limit_s: float) -> Outputs:
    """Row by row, each no longer than somebody waits for it.

    Raises:
        DependencyUnreachable: a row takes longer than `limit_s`.
    """
    parts = []
    for place, row in enumerate(placed):
        end = time.monotonic() + limit_s

        def goes_on(row: Placed = row, end: float = end) -> bool:
            now = time.monotonic()
            if now >= end:
                raise DependencyUnreachable(f"version {version} did not write an answer within {limit_s:g} s")
            return row.is_wanted(now)

        one = {name: array[place : place + 1] for name, array in inputs.items()}
        parts.append(write(partial(ask, version), one, first=_TOKENS, most=_TOKENS, goes_on=goes_on))
    return joined(parts)  # each part is as wide as its own text


def _in_time(answer: Answered, now: float) -> Answered:
    return answer if answer.placed.is_wanted(now) else answer._replace(late=True)


def _answering_arm(route: Route, row: Placed, version: int) -> Arm:
    arms_version = route.challenger if row.arm is Arm.CHALLENGER else route.champion
    return row.arm if version == arms_version else Arm.FALLBACK
