"""Ranking: the input is a user at a time, an answer is items in order, the target is how relevant which items were."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, ClassVar

from perennial.continual.errors import DataError
from perennial.continual.preparation import admit_key, admit_text, admit_time, shown
from perennial.continual.records import Origin
from perennial.continual.task import PREDICTION, ColumnKind, KeptRow, Row
from perennial.continual.tasks.ranking.rows import EVERYBODY, HIGHEST, Impression, Query, is_relevance

__all__ = ["Ranking"]

_PLACES = 10  # that are looked at
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  # histories of what people liked are older than labels


@dataclass(frozen=True, slots=True)
class Ranking:
    """Rows are `Impression`s; the score is NDCG@10.

    >>> task = Ranking()
    >>> task.score(("b", "a"), {"a": 1.0}) < task.score(("a", "b"), {"a": 1.0}) == 1.0
    True
    """

    name: ClassVar[str] = "ranking"
    stratum_noun: ClassVar[str] = "segment"
    adds_up: ClassVar[bool] = True
    stays_right: ClassVar[bool] = False
    text_columns: ClassVar[Sequence[str]] = ("context",)
    log_columns: ClassVar[Mapping[str, ColumnKind]] = MappingProxyType(
        dict.fromkeys(("user", "asked_at", "segment", "context", "ask", PREDICTION, "propensities"), ColumnKind.TEXT)
    )

    def watched(self, logged: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        """The segment and the context, and the first item; who asked is nobody's concern here."""
        return {
            "text": [" ".join(parts).strip() for parts in zip(logged["segment"], logged["context"], strict=True)],
            PREDICTION: [next(iter(self.read_answer(kept)), "") for kept in logged[PREDICTION]],
            "answer": logged[PREDICTION],
        }

    def read_row(self, raw: Mapping[str, Any], *, now: datetime) -> Impression:
        """An impression from `user`, `asked_at` and `relevances`, and the other fields of `write_row` where given."""
        for field in ("user", "asked_at", "relevances"):
            if field not in raw:
                raise DataError(f"a row has the fields {sorted(raw)}; it needs 'user', 'asked_at' and 'relevances'")
        context, changed = _context(raw.get("context", ""))
        query = Query(
            user=_named(raw["user"], "user"),
            at=admit_time(raw["asked_at"], now=now, field="asked_at", earliest=_EARLIEST),
            segment=_named(raw.get("segment", EVERYBODY), "segment"),
            context=context,
        )
        return Impression(
            input=query,
            target=_relevances(raw["relevances"]),
            at=admit_time(raw.get("at"), now=now, earliest=_EARLIEST),
            origin=Origin.named(raw.get("origin", Origin.IMPORT)),
            key=query.user,
            prediction_id=raw.get("prediction_id"),
            redacted=changed or bool(raw.get("redacted", False)),
        )

    def write_row(self, row: Row[Query, Mapping[str, float]]) -> dict[str, Any]:
        """The fields of an impression."""
        return {
            "user": row.input.user,
            "asked_at": row.input.at.isoformat(),
            "segment": row.input.segment,
            "context": row.input.context,
            "relevances": dict(row.target),
            "at": row.at.isoformat(),
            "key": row.key,
            "redacted": row.redacted,
            "origin": row.origin.value,
            "prediction_id": row.prediction_id,
        }

    def keep(self, row: Row[Query, Mapping[str, float]]) -> KeptRow:
        """Query and relevances as JSON objects."""
        return KeptRow(
            input=_text(asdict(row.input) | {"at": row.input.at.isoformat()}),
            target=self.write_target(row.target),
            at=row.at,
            origin=row.origin,
            key=row.key,
            prediction_id=row.prediction_id,
            redacted=row.redacted,
        )

    def read_kept(self, kept: KeptRow) -> Impression:
        """An impression."""
        document = _json(kept.input)
        try:
            query = Query(**document | {"at": datetime.fromisoformat(document["at"])})  # type: ignore[operator, index]
        except (TypeError, LookupError, ValueError) as exc:
            raise DataError(f"a kept query is {shown(kept.input)}, which is none: {exc}") from exc
        return Impression(
            input=query,
            target=self.read_target(kept.target),
            at=kept.at,
            origin=kept.origin,
            key=query.user,
            prediction_id=kept.prediction_id,
            redacted=kept.redacted,
        )

    def read_answer(self, kept: str) -> tuple[str, ...]:
        """Items out of a JSON list."""
        items = _json(kept)
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise DataError(f"a ranking is {shown(kept)}; it must be a JSON list of items")
        return tuple(items)

    def read_target(self, kept: str) -> Mapping[str, float]:
        """Relevances out of a JSON object."""
        return _relevances(_json(kept))

    def write_target(self, target: Mapping[str, float]) -> str:
        """A JSON object."""
        return _text(dict(target))

    def joined(self, known: str, later: str) -> str:
        """The items of both; of one that is in both, the higher relevance."""
        one, other = self.read_target(known), self.read_target(later)
        return self.write_target({**one, **{item: max(worth, one.get(item, 0.0)) for item, worth in other.items()}})

    def redact(self, task_input: Query) -> tuple[Query, bool]:
        """The query with its context as a text may be kept, and its user in the one form of a key."""
        context, changed = _context(task_input.context)
        return replace(task_input, user=_named(task_input.user, "user"), context=context), changed

    def identity(self, task_input: Query) -> bytes:
        """User and time: whoever asks twice may want something else."""
        return json.dumps([task_input.user, task_input.at.astimezone(UTC).isoformat()]).encode()

    def stratum(self, row: Row[Query, Mapping[str, float]]) -> str:
        """The segment of users."""
        return row.input.segment

    def class_of(self, row: Row[Query, Mapping[str, float]]) -> str | None:
        """None: items come and go."""
        return None

    def size_bytes(self, row: Row[Query, Mapping[str, float]]) -> int:
        """The UTF-8 of the query's names and of the items, and 8 for each time and relevance."""
        names = (row.input.user, row.input.segment, row.input.context, *row.target)
        return sum(len(name.encode()) for name in names) + 8 * (1 + len(row.target))

    def texts(self, task_input: Query) -> Sequence[str]:
        """The context, where there is one."""
        return (task_input.context,) if task_input.context else ()

    def words(self, task_input: Query) -> Sequence[str]:
        """The user, the segment and the words of the context."""
        return (f"user {task_input.user}", f"segment {task_input.segment}", *task_input.context.casefold().split())

    def score(self, answer: Sequence[str], target: Mapping[str, float]) -> float:
        """NDCG over the first ten items; an item that is named again earns nothing; 0 where nothing is relevant.

        Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 20(4), 2002.
        """
        best = _discounted(sorted(target.values(), reverse=True))
        if best == 0.0:
            return 0.0
        first = {item: place for place, item in reversed(list(enumerate(answer)))}
        gains = [target.get(item, 0.0) if first[item] == place else 0.0 for place, item in enumerate(answer)]
        return min(1.0, _discounted(gains) / best)

    def shown(self, answer: Sequence[str]) -> Sequence[str]:
        """The first ten items."""
        return answer[:_PLACES]

    def same(self, one: Sequence[str], other: Sequence[str]) -> bool:
        """Whether the first ten items are the same in the same order."""
        return tuple(one[:_PLACES]) == tuple(other[:_PLACES])

    def apprentice(self) -> None:
        """None: the log keeps which items were shown, and not what they were chosen from."""
        return


def _named(raw: object, field: str) -> str:
    name = admit_key(raw, field=field)
    if name is None:
        raise DataError(f"a query's {field} is empty; name one")
    return name


def _context(raw: object) -> tuple[str, bool]:
    """A context as it may be kept, and whether personal data was taken out of it."""
    if raw == "":
        return "", False
    admitted = admit_text(raw, field="context")
    return admitted.text, admitted.redacted


def _discounted(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(place + 2) for place, gain in enumerate(gains[:_PLACES]))


def _relevances(raw: object) -> dict[str, float]:
    if not isinstance(raw, Mapping) or not all(
        isinstance(item, str) and is_relevance(relevance) for item, relevance in raw.items()
    ):
        raise DataError(
            f"relevances are {shown(raw)}; they must be numbers by item, 0 to {HIGHEST:,.0f}, e.g. {{'item 7': 1.0}}"
        )
    return {item: float(relevance) for item, relevance in raw.items()}


def _text(document: Mapping[str, Any]) -> str:
    """JSON; equal objects give equal texts."""
    return json.dumps(document, ensure_ascii=False, sort_keys=True)


def _json(kept: str) -> object:
    try:
        return json.loads(kept)
    except ValueError as exc:
        raise DataError(f"{shown(kept)} is not JSON ({exc}); give what the task wrote") from exc
