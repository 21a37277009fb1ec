"""What the router does with a batch of requests, apart from Triton's own types.

texts -> arms by the route -> tokens by each version's tokenizer -> one engine call a version -> labels -> traffic log
-> answers. One bad request fails alone; rows whose challenger fails are answered by the champion.
"""

import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from continual.errors import DataError, DependencyUnreachable, PerennialError
from continual.preparation import deidentify
from continual.records import Arm, Route
from ops.triton.route_file import RouteFile, arm_of

__all__ = ["EngineCall", "RequestAnswer", "Router", "RouterRequest", "TrafficSink", "new_prediction_id", "read_strings"]

logger = logging.getLogger(__name__)
_MOST_CHARACTERS = 20_000  # far above what any tokenizer keeps; a longer text is cut before it is tokenised
_MOST_KEY_BYTES = 512
_WAITING_ROWS = 50_000  # rows kept for a disk that does not take them

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
EngineCall = Callable[[int, Tokens, Tokens], tuple[Floats, Floats]]


class TrafficSink(Protocol):
    """Where answered rows go, in one piece, before their answers leave."""

    def append(self, columns: Mapping[str, Any]) -> None:
        """Write one batch of rows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterRequest:
    """One client's request: texts, a key for each (or none), and whether all scores are wanted."""

    texts: tuple[str, ...]
    keys: tuple[str | None, ...]
    scores: bool = False
    probe: bool = False  # a health check: answered like any request, but not logged


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswer:
    """Answers of one request, one row a text. `scores` is (B, C) and `labels` its names, when asked for."""

    label: list[str]
    confidence: list[float]
    version: list[int]
    prediction_id: list[str]
    scores: Floats | None = None
    labels: list[list[str]] | None = None


@dataclass(slots=True, kw_only=True)
class _Row:
    text: str
    key: str | None
    prediction_id: str
    arm: Arm
    version: int
    probe: bool
    tokens: int = 0
    probabilities: Floats = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    embedding: Floats = field(default_factory=lambda: np.zeros(0, dtype=np.float32))


class _Version:
    """A version's tokenizer and labels."""

    def __init__(self, bundle: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self.tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
            self.labels = [str(name) for name in json.loads((bundle / "labels.json").read_text(encoding="utf-8"))]
        except Exception as exc:  # the tokenizers library raises a bare Exception
            raise DependencyUnreachable(f"{bundle} cannot be read: {exc}; restore the version's folder") from exc
        self.names = np.asarray(self.labels, dtype=object)


class Router:
    """Answers batches. One thread calls it."""

    def __init__(self, *, route: RouteFile, bundles: Path, engine: EngineCall, sink: TrafficSink) -> None:
        self._route, self._bundles, self._engine, self._sink = route, bundles, engine, sink
        self._versions: dict[int, _Version] = {}
        self._waiting: list[dict[str, Any]] = []

    def answer(self, requests: Sequence[RouterRequest]) -> list[RequestAnswer | PerennialError]:
        """One answer or error for each request, in their order. Answered rows are logged before this returns."""
        started = time.perf_counter()
        try:
            route = self._route.current()
        except PerennialError as exc:
            return [exc for _ in requests]
        batches = [self._rows(request, route) for request in requests]
        errors = self._infer(route, [row for rows in batches for row in rows])
        answers: list[RequestAnswer | PerennialError] = []
        answered: list[_Row] = []
        for request, rows in zip(requests, batches, strict=True):
            failed = next((errors[row.version] for row in rows if row.version in errors), None)
            if failed is not None:
                answers.append(failed)
                continue
            answers.append(self._answer(request, rows))
            answered += [row for row in rows if not row.probe]
        self._log(answered, 1e3 * (time.perf_counter() - started))
        return answers

    def _rows(self, request: RouterRequest, route: Route) -> list[_Row]:
        rows = []
        for text, key in zip(request.texts, request.keys, strict=True):
            prediction_id = new_prediction_id()
            arm = arm_of(route, prediction_id if key is None else key)
            version = route.champion if arm is Arm.CHAMPION or route.challenger is None else route.challenger
            cut = text[:_MOST_CHARACTERS]
            rows.append(
                _Row(text=cut, key=key, prediction_id=prediction_id, arm=arm, version=version, probe=request.probe)
            )
        return rows

    def _infer(self, route: Route, rows: Sequence[_Row]) -> dict[int, PerennialError]:
        """Fill every row; returns the versions that could not answer. The challenger goes first, so that its rows can
        still join the champion's."""
        errors: dict[int, PerennialError] = {}
        for version in sorted({row.version for row in rows}, key=lambda v: v == route.champion):
            mine = [row for row in rows if row.version == version]
            try:
                self._ask(version, mine)
            except PerennialError as exc:
                logger.warning("router.engine_failed", extra={"version": version, "error": str(exc)})
                if version == route.champion:
                    errors[version] = exc
                else:
                    self._fall_back(route, mine, errors)
        return errors

    def _fall_back(self, route: Route, rows: Sequence[_Row], errors: dict[int, PerennialError]) -> None:
        for row in rows:
            row.version, row.arm = route.champion, Arm.CHAMPION
        try:
            self._ask(route.champion, rows)
        except PerennialError as exc:
            errors[route.champion] = exc

    def _ask(self, version: int, rows: Sequence[_Row]) -> None:
        known = self._version(version)
        ids = [encoding.ids for encoding in known.tokenizer.encode_batch_fast([row.text for row in rows])]
        longest = max(1, *(len(row) for row in ids))
        input_ids = np.zeros((len(ids), longest), dtype=np.int64)
        mask = np.zeros_like(input_ids)
        for place, row_ids in enumerate(ids):
            input_ids[place, : len(row_ids)] = row_ids
            mask[place, : len(row_ids)] = 1
        logits, embeddings = self._engine(version, input_ids, mask)
        if logits.shape != (len(rows), len(known.labels)):
            raise DependencyUnreachable(
                f"engine version {version} gave logits {logits.shape}, expected {(len(rows), len(known.labels))}"
            )
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        for place, row in enumerate(rows):
            row.tokens = len(ids[place])
            row.probabilities = probabilities[place]
            row.embedding = embeddings[place]

    def _version(self, version: int) -> _Version:
        if version not in self._versions:
            if len(self._versions) > 8:
                self._versions.clear()
            self._versions[version] = _Version(self._bundles / str(version))
        return self._versions[version]

    def _answer(self, request: RouterRequest, rows: Sequence[_Row]) -> RequestAnswer:
        best = [int(row.probabilities.argmax()) for row in rows]
        scores, labels = None, None
        if request.scores:
            width = max(len(row.probabilities) for row in rows)
            scores = np.zeros((len(rows), width), dtype=np.float32)
            labels = []
            for place, row in enumerate(rows):
                scores[place, : len(row.probabilities)] = row.probabilities
                names = self._version(row.version).labels
                labels.append(names + [""] * (width - len(names)))
        return RequestAnswer(
            label=[self._version(row.version).labels[i] for row, i in zip(rows, best, strict=True)],
            confidence=[float(row.probabilities[i]) for row, i in zip(rows, best, strict=True)],
            version=[row.version for row in rows],
            prediction_id=[row.prediction_id for row in rows],
            scores=scores,
            labels=labels,
        )

    def _log(self, rows: Sequence[_Row], latency_ms: float) -> None:
        """Append the rows; a disk that refuses them fails no answer, and gets them again with the next batch."""
        if rows:
            self._waiting.append(self._columns(rows, latency_ms))
        try:
            while self._waiting:
                self._sink.append(self._waiting[0])
                self._waiting.pop(0)
        except (OSError, PerennialError):
            logger.exception("router.traffic_not_logged", extra={"batches_waiting": len(self._waiting)})
            while sum(len(batch["text"]) for batch in self._waiting) > _WAITING_ROWS:
                lost = self._waiting.pop(0)
                logger.error("router.traffic_lost", extra={"rows": len(lost["text"])})

    def _columns(self, rows: Sequence[_Row], latency_ms: float) -> dict[str, Any]:
        top = [np.sort(row.probabilities)[::-1][:2] for row in rows]
        return {
            "prediction_id": [row.prediction_id for row in rows],
            "at": [datetime.now(UTC)] * len(rows),
            "text": [deidentify(row.text) for row in rows],
            "key": [row.key for row in rows],
            "label": [self._version(row.version).labels[int(row.probabilities.argmax())] for row in rows],
            "confidence": [float(t[0]) for t in top],
            "margin": [float(t[0] - t[1]) if len(t) > 1 else 1.0 for t in top],
            "entropy": [_entropy(row.probabilities) for row in rows],
            "version": [row.version for row in rows],
            "arm": [row.arm.value for row in rows],
            "tokens": [row.tokens for row in rows],
            "latency_ms": [latency_ms] * len(rows),
            "embedding": np.stack([row.embedding for row in rows]),
        }


def _entropy(probabilities: Floats) -> float:
    """In nats."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())


def new_prediction_id() -> str:
    """48 bits of the time in milliseconds and 64 random bits, in hex: ids sort by time."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


def read_strings(values: npt.NDArray[Any], name: str, *, most_bytes: int | None = None) -> tuple[str, ...]:
    """The strings of a BYTES tensor of shape (B, 1).

    Raises:
        DataError: a row is not UTF-8, or longer than allowed.
    """
    strings = []
    for row, value in enumerate(values.reshape(-1)):
        data = value if isinstance(value, bytes) else str(value).encode()
        if most_bytes is not None and len(data) > most_bytes:
            raise DataError(f"{name} row {row} has {len(data)} bytes; at most {most_bytes} are allowed")
        try:
            strings.append(data.decode("utf-8"))
        except UnicodeDecodeError as exc:
            raise DataError(
                f"{name} row {row} is not UTF-8: byte 0x{data[exc.start]:02x} at offset {exc.start}; send UTF-8 text"
            ) from exc
    return tuple(strings)


KEY_BYTES = _MOST_KEY_BYTES
