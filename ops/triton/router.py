"""What the router backend does with a batch of texts: pick versions, tokenise, ask the engines, log, answer."""

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from continual.errors import ConfigurationError, DataError, NotFound, PerennialError
from continual.preparation import deidentify
from continual.records import Arm, Route
from ops.triton.route import RouteFile, pick_arm

__all__ = [
    "Question",
    "Router",
    "RouterSettings",
    "Served",
    "TextBundle",
    "TextBundles",
    "decode_rows",
    "prediction_id",
]

logger = logging.getLogger(__name__)

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
AskEngine = Callable[[int, Tokens, Tokens], tuple[Floats, Floats]]
_KEPT_BUNDLES = 8
_UNWRITTEN_ROWS = 50_000  # kept in memory for a disk that does not take them


class _Log(Protocol):
    def append(self, columns: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """The router's parameters in `config.pbtxt`. `max_characters` are kept of a text before it is tokenised."""

    model: str
    engine_model: str
    route_path: Path
    repository: Path
    traffic_dir: Path
    max_characters: int = 20_000
    max_key_bytes: int = 256
    rotate_rows: int = 5_000
    rotate_s: float = 60.0

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
                max_characters=int(parameters.get("max_characters", "20000")),
                max_key_bytes=int(parameters.get("max_key_bytes", "256")),
                rotate_rows=int(parameters.get("rotate_rows", "5000")),
                rotate_s=float(parameters.get("rotate_s", "60")),
            )
        except (KeyError, ValueError) as exc:
            raise ConfigurationError(f"router {model}: parameter {exc} in config.pbtxt is missing or wrong") from exc

    def to_parameters(self) -> dict[str, str]:
        """The strings for `config.pbtxt`; paths absolute, because Triton has its own working folder."""
        return {
            "engine_model": self.engine_model,
            "route_path": str(self.route_path.resolve()),
            "repository": str(self.repository.resolve()),
            "traffic_dir": str(self.traffic_dir.resolve()),
            "max_characters": str(self.max_characters),
            "max_key_bytes": str(self.max_key_bytes),
            "rotate_rows": str(self.rotate_rows),
            "rotate_s": str(self.rotate_s),
        }


@dataclass(frozen=True, slots=True)
class Question:
    """One text to be answered; an empty key is none. What is not `logged` is a probe."""

    text: str
    key: str = ""
    logged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One answered text. `scores` (C,) belong to `labels` in order."""

    label: str
    confidence: float
    version: int
    prediction_id: str
    arm: Arm
    scores: Floats
    labels: tuple[str, ...]


class TextBundle:
    """The text side of a version: its tokenizer and its labels."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self.labels: tuple[str, ...] = tuple(json.loads((folder / "labels.json").read_text(encoding="utf-8")))
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as exc:  # tokenizers raises bare Exception
            raise NotFound(f"version folder {folder} cannot be read ({exc}); restore it or route elsewhere") from exc
        self._tokenizer.no_padding()

    def tokenise(self, texts: Sequence[str]) -> tuple[Tokens, Tokens]:
        """Token ids and mask (rows, longest), padded with zeros; a text without a token counts as one padding id."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        longest = max(1, *(len(row) for row in rows))
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : max(1, len(row))] = 1
        return ids, mask


class TextBundles:
    """The text sides of the versions in use, read once each; versions never change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[int, TextBundle] = {}
        self._lock = threading.Lock()

    def get(self, version: int) -> TextBundle:
        """One version's; read on first use.

        Raises:
            NotFound: its folder is not there or not readable.
        """
        if (held := self._held.get(version)) is not None:
            return held
        with self._lock:
            if version not in self._held:
                held = TextBundle(self._folder / str(version))
                while len(self._held) >= _KEPT_BUNDLES:
                    del self._held[next(iter(self._held))]
                self._held[version] = held
            return self._held[version]

    def prepare(self, versions: Sequence[int]) -> None:
        """Read these beforehand, in the background, so that no request waits for it."""
        if missing := [version for version in versions if version not in self._held]:
            threading.Thread(target=self._prepare, args=(missing,), name="bundles", daemon=True).start()

    def _prepare(self, versions: Sequence[int]) -> None:
        for version in versions:
            try:
                self.get(version)
            except PerennialError as exc:
                logger.warning("bundle.unreadable", extra={"version": version, "reason": str(exc)})


class Router:
    """Answers batches of texts by the route. `ask_engine(version, ids, mask)` gives logits and embeddings or raises."""

    def __init__(self, settings: RouterSettings, log: _Log, ask_engine: AskEngine) -> None:
        self._settings, self._log, self._ask = settings, log, ask_engine
        self._route_file = RouteFile(settings.route_path)
        self._bundles = TextBundles(settings.repository / settings.engine_model)
        self._route: Route | None = None
        self._unwritten: deque[Mapping[str, Any]] = deque()
        self.write_failures = 0

    def warm(self) -> None:
        """Read the route and its versions' text sides, where there are any yet."""
        try:
            self._bundles.get(self._current().champion)
        except PerennialError as exc:
            logger.info("router.unrouted", extra={"model": self._settings.model, "reason": str(exc)})

    def answer(self, questions: Sequence[Question]) -> list[Served]:
        """One answer a question, in order, all of them logged before this returns.

        Rows whose challenger fails are answered by the champion.

        Raises:
            NotFound: there is no route or the champion's folder is gone.
            PerennialError: the champion's engine failed.
        """
        started = time.perf_counter()
        route = self._current()
        now_us = time.time_ns() // 1000
        limit = self._settings.max_characters
        texts = [question.text[:limit] for question in questions]
        ids = [prediction_id(now_us) for _ in questions]
        arms = [pick_arm(route, q.key or ids[i]) for i, q in enumerate(questions)]
        found: list[_Found | None] = [None] * len(questions)
        for arm in (Arm.CHALLENGER, Arm.CHAMPION):
            rows = [index for index, picked in enumerate(arms) if picked is arm]
            if rows and not self._answer_arm(route, arm, rows, texts, found):
                for index in rows:
                    arms[index] = Arm.CHAMPION
        served = [_served(row, ids[i], arms[i]) for i, row in enumerate(found) if row is not None]
        latency_ms = (time.perf_counter() - started) * 1000.0
        self._record(questions, texts, found, served, now_us, latency_ms)
        return served

    def _current(self) -> Route:
        route = self._route_file.current()
        if route is not self._route:
            self._route = route
            self._bundles.prepare(route.resident)
            logger.info("route.changed", extra={"model": route.model, "epoch": route.epoch, "champion": route.champion})
        return route

    def _answer_arm(
        self, route: Route, arm: Arm, rows: list[int], texts: list[str], found: list["_Found | None"]
    ) -> bool:
        """Fill `found` for these rows; False when the challenger could not."""
        version = route.champion if arm is Arm.CHAMPION else route.challenger or route.champion
        try:
            bundle = self._bundles.get(version)
            ids, mask = bundle.tokenise([texts[index] for index in rows])
            logits, embedding = self._ask(version, ids, mask)
            if logits.shape != (len(rows), len(bundle.labels)) or not np.isfinite(logits).all():
                raise DataError(
                    f"engine {self._settings.engine_model} version {version} gave logits {logits.shape} for "
                    f"{len(rows)} rows of {len(bundle.labels)} labels, or not finite ones; roll back to another version"
                )
        except PerennialError as exc:
            if arm is Arm.CHAMPION:
                raise
            logger.warning("challenger.failed", extra={"version": version, "rows": len(rows), "reason": str(exc)})
            return False
        scores = _softmax(logits)
        tokens = mask.sum(axis=1)
        for place, index in enumerate(rows):
            found[index] = _Found(version, bundle.labels, scores[place], embedding[place], int(tokens[place]))
        return True

    def _record(
        self,
        questions: Sequence[Question],
        texts: Sequence[str],
        found: Sequence["_Found | None"],
        served: Sequence[Served],
        now_us: int,
        latency_ms: float,
    ) -> None:
        logged = [i for i, question in enumerate(questions) if question.logged and found[i] is not None]
        if not logged:
            return
        answers = [served[i] for i in logged]
        rows = [row for i in logged if (row := found[i]) is not None]
        columns = {
            "prediction_id": [answer.prediction_id for answer in answers],
            "at": [datetime.fromtimestamp(now_us / 1e6, UTC)] * len(logged),
            "text": [deidentify(texts[i]) for i in logged],
            "key": [questions[i].key or None for i in logged],
            "label": [answer.label for answer in answers],
            "confidence": [answer.confidence for answer in answers],
            "margin": [_margin(answer.scores) for answer in answers],
            "entropy": [_entropy(answer.scores) for answer in answers],
            "version": [answer.version for answer in answers],
            "arm": [answer.arm.value for answer in answers],
            "tokens": [row.tokens for row in rows],
            "latency_ms": [latency_ms] * len(logged),
            "embedding": _stacked([row.embedding for row in rows]),
        }
        self._write(columns)

    def _write(self, columns: Mapping[str, Any]) -> None:
        """Append; a disk that refuses fails no answer, and gets the rows again before the next ones, up to a bound.

        Rows that the log itself refuses are dropped: no retry can mend them, and those behind them must not wait.
        """
        self._unwritten.append(columns)
        try:
            while self._unwritten:
                try:
                    self._log.append(self._unwritten[0])
                except PerennialError as exc:
                    self.write_failures += 1
                    refused = len(self._unwritten[0]["text"])
                    logger.error("traffic.refused", extra={"reason": str(exc), "rows": refused})
                self._unwritten.popleft()
        except OSError as exc:
            self.write_failures += 1
            logger.error("traffic.not_written", extra={"reason": str(exc), "batches_waiting": len(self._unwritten)})
            while sum(len(batch["text"]) for batch in self._unwritten) > _UNWRITTEN_ROWS:
                lost = self._unwritten.popleft()
                logger.error("traffic.lost", extra={"rows": len(lost["text"])})


@dataclass(frozen=True, slots=True)
class _Found:
    version: int
    labels: tuple[str, ...]
    scores: Floats
    embedding: Floats
    tokens: int


def _served(row: _Found, number: str, arm: Arm) -> Served:
    best = int(row.scores.argmax())
    return Served(
        label=row.labels[best],
        confidence=float(row.scores[best]),
        version=row.version,
        prediction_id=number,
        arm=arm,
        scores=row.scores,
        labels=row.labels,
    )


def _margin(scores: Floats) -> float:
    if len(scores) < 2:
        return 1.0
    second, first = np.partition(scores, -2)[-2:]
    return float(first - second)


def _entropy(scores: Floats) -> float:
    """In nats."""
    return float(-(scores * np.log(np.maximum(scores, 1e-12))).sum())


def _stacked(embeddings: Sequence[Floats]) -> Floats | None:
    """One array where the batch's versions share a dimension, else none: a file has one dimension."""
    return np.stack(embeddings) if len({row.shape for row in embeddings}) == 1 else None


def prediction_id(now_us: int) -> str:
    """32 hex digits that sort by time: 48 bits of milliseconds, then 80 random bits."""
    return f"{now_us // 1000:012x}{os.urandom(10).hex()}"


def decode_rows(texts: Any, keys: Any | None, max_key_bytes: int, *, logged: bool = True) -> list[Question]:
    """The questions of one request, out of its `TEXT` and `KEY` values (bytes, in row order).

    Raises:
        DataError: a value is not UTF-8 or a key is too long; the message names the row and the byte.
    """
    questions = []
    for row, raw in enumerate(texts):
        text, key = _decode("TEXT", row, raw), ""
        if keys is not None:
            if len(keys[row]) > max_key_bytes:
                raise DataError(
                    f"KEY of row {row} has {len(keys[row])} bytes (limit {max_key_bytes}); send a shorter id"
                )
            key = _decode("KEY", row, keys[row])
        questions.append(Question(text, key, logged))
    return questions


def _decode(name: str, row: int, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise DataError(
            f"{name} of row {row} is not UTF-8: byte 0x{raw[exc.start]:02x} at offset {exc.start}; encode it as UTF-8"
        ) from exc


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores: Floats = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    return scores
