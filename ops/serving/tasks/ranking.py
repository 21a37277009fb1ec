"""Ranking at the router: a user in, items in order out, with the reason and the chance of each place."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from perennial.client.rankings import RankedList, lists_in, ranking_tensors
from perennial.continual.errors import DataError, NotFound, PerennialError
from perennial.continual.learning.ranking import Placed
from perennial.continual.preparation import admit_key, clean
from perennial.continual.preparation.characters import SURROGATE, has_visible
from perennial.continual.tasks.ranking import Query, Ranking
from perennial.continual.tasks.ranking.rows import EVERYBODY
from perennial.exporters.ranking.asked import Asked, asked_of
from perennial.exporters.ranking.catalogue import Catalogue
from perennial.exporters.ranking.outcomes import ListOutcomes
from perennial.exporters.ranking.signature import (
    ASK_ENGINE,
    ASK_ROUTER,
    CANDIDATES,
    CONTEXT,
    COUNT,
    ITEMS,
    LANGUAGE,
    PLACES,
    PROPENSITY,
    REASON,
    SCORES,
    SEGMENT,
    USER,
    WITHHELD,
)
from perennial.exporters.signature import Array, EngineSignature, RouterSignature
from perennial.ops.serving.file_memory import FileMemory
from perennial.ops.serving.port import FurtherProof
from perennial.ops.serving.tensors import decoded, one_a_row, read_json, wide
from perennial.ops.store.user_events import UserEvents

__all__ = ["SIDE", "Listed", "RankingVersion"]

_USUAL_COUNT = 10
_MOST_NAMED, _MOST_BYTES = 10_000, 500_000  # candidates, or withheld items; as JSON
_LONGEST_CHARACTER = 4  # bytes in UTF-8
_WAIT_S = 0.05  # for a locked file of users, at most
_LOTTERY_BITS = 63
_ASK = ("count", "candidates", "withheld", "language")  # what the log keeps of a question as one text


class Listed(NamedTuple):
    """One user's list. It has no probability of being right, and no place among others."""

    places: tuple[Placed, ...]

    @property
    def kept(self) -> str:
        """The items as a JSON list."""
        return json.dumps([place.item for place in self.places], ensure_ascii=False)

    @property
    def confidence(self) -> None:
        """None."""
        return

    @property
    def embedding(self) -> None:
        """None."""
        return


class RankingVersion:
    """A version's catalogue."""

    vocabulary: ClassVar[None] = None

    def __init__(self, folder: Path) -> None:
        try:
            self._catalogue = Catalogue.read(folder)
        except PerennialError as exc:
            raise NotFound(f"version folder {folder} cannot be read ({exc}); restore it or route elsewhere") from exc

    @property
    def signature(self) -> EngineSignature:
        """The lengths of its lists are in the manifest alone."""
        return ASK_ENGINE

    def encode(self, inputs: Sequence[Asked | Query]) -> Mapping[str, Array]:
        """What was liked, what is hidden, and what words add."""
        return self._catalogue.encode(asked_of(inputs))

    def answers(
        self,
        task_inputs: Sequence[Asked | Query],
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        *,
        within: frozenset[str] | None = None,
    ) -> list[Listed]:
        """The lists; `within` says nothing, because they cannot be listed."""
        return [Listed(places) for places in self._catalogue.lists(asked_of(task_inputs), outputs)]


class _Users(FileMemory):
    """What is known of users, for questions of now. See `perennial.ops.serving.port.Memory`."""

    def __init__(self, path: Path | None) -> None:
        super().__init__("users.unread")
        self._kept = None if path is None else UserEvents(path, wait_s=_WAIT_S)

    def recalled(self, inputs: Sequence[Asked | Query]) -> list[Asked]:
        """Each with its user's events before it; one that has no time is asked now, of all events, and may explore."""
        now = datetime.now(UTC)
        return [self._recalled(asked, now) for asked in asked_of(inputs)]

    def _recalled(self, asked: Asked, now: datetime) -> Asked:
        before = asked.at
        if before is None:
            asked = replace(asked, at=now, lottery=secrets.randbits(_LOTTERY_BITS))
        if self._kept is None or asked.profile is not None:
            return asked
        try:
            profile = self._kept.profile(asked.user, before=before)
        except PerennialError as exc:
            self.failed(1, exc)
            return asked
        self.worked()
        return replace(asked, profile=profile)


class _Ranking:
    """See `perennial.ops.serving.port.ServingSide`."""

    name: ClassVar[str] = "ranking"
    signature: ClassVar[RouterSignature] = ASK_ROUTER
    engine: ClassVar[EngineSignature] = ASK_ENGINE
    probe: ClassVar[Asked] = Asked(user="are you there")
    remembers: ClassVar[bool] = True
    reads_slowly: ClassVar[bool] = False
    input_columns: ClassVar[tuple[str, ...]] = ("user", "asked_at", "segment", "context", "ask")

    def request(self, inputs: Sequence[Asked]) -> Mapping[str, Array]:
        """Times and profiles are the router's affair and are not sent, nor is the segment of everybody."""
        return ranking_tensors(
            [replace(asked, segment="") if asked.segment == EVERYBODY else asked for asked in inputs]
        )

    def received(self, outputs: Mapping[str, Array]) -> list[RankedList]:
        return lists_in(outputs)

    def sizes(self, tensors: Mapping[str, Array]) -> list[int]:
        if USER not in tensors:
            raise DataError(f"the input {USER} is missing; send one user a row as BYTES of shape [rows, 1]")
        users = tensors[USER].reshape(-1)
        if not len(users):
            raise DataError(f"the input {USER} has no rows; send at least one")
        sizes = [0] * len(users)
        for name in (USER, CONTEXT, CANDIDATES, WITHHELD, LANGUAGE, SEGMENT):
            for row, raw in enumerate(one_a_row(tensors, name, len(users))):
                sizes[row] += len(raw)
        return sizes

    def questions(self, tensors: Mapping[str, Array], *, max_characters: int) -> list[Asked]:
        """Lists as they are asked for; names of users, segments and languages are kept by the rule of keys."""
        rows = len(tensors[USER].reshape(-1))
        columns = [one_a_row(tensors, name, rows) for name in (USER, CONTEXT, CANDIDATES, WITHHELD, LANGUAGE, SEGMENT)]
        counts = tensors[COUNT].reshape(-1).tolist() if COUNT in tensors else [_USUAL_COUNT] * rows
        if len(counts) != rows:
            raise DataError(f"the input {COUNT} has {len(counts)} rows of {rows}; send one number a row, or none")
        asked = []
        for row, (user, context, candidates, withheld, language, segment) in enumerate(zip(*columns, strict=True)):
            if not 1 <= counts[row] <= PLACES:
                raise DataError(f"{COUNT} of row {row} is {counts[row]}; ask for 1 to {PLACES} items")
            named = _key(USER, row, user)
            if not named:
                raise DataError(f"{USER} of row {row} is empty; name the user whom the list is for")
            asked.append(
                Asked(
                    user=named,
                    segment=_key(SEGMENT, row, segment) or EVERYBODY,
                    context=_cut(row, context, max_characters),
                    count=counts[row],
                    candidates=_names(CANDIDATES, row, candidates),
                    withheld=_names(WITHHELD, row, withheld) or (),
                    language=_key(LANGUAGE, row, language),
                )
            )
        return asked

    def caller(self, task_input: Asked) -> str:
        return task_input.user

    def memory(self, path: Path | None) -> _Users:
        return _Users(path)

    def further_proofs(self, path: Path | None) -> Sequence[FurtherProof]:
        del path
        return ()

    def open(self, bundle: Path, *, proved: bool = False) -> RankingVersion:
        return RankingVersion(bundle)

    def outcomes(self, bundle: Path) -> ListOutcomes:
        return ListOutcomes.read(bundle)

    def tensors(self, answers: Sequence[Listed], wanted: frozenset[str]) -> Mapping[str, Array]:
        """Lists of different lengths share one width; the missing places hold an empty item, and 0."""
        rows = [answer.places for answer in answers]
        made: dict[str, Array] = {}
        if ITEMS in wanted:
            made[ITEMS] = wide([[place.item.encode() for place in row] for row in rows], b"", np.object_)
        if SCORES in wanted:
            made[SCORES] = wide([[place.score for place in row] for row in rows], 0.0, np.float32)
        if REASON in wanted:
            made[REASON] = wide([[place.reason.encode() for place in row] for row in rows], b"", np.object_)
        if PROPENSITY in wanted:
            made[PROPENSITY] = wide([[place.propensity for place in row] for row in rows], 0.0, np.float32)
        return made

    def logged_input(self, logged: Mapping[str, Any]) -> Asked | None:
        ask = json.loads(logged["ask"])
        candidates = ask["candidates"]
        return Asked(
            user=logged["user"],
            segment=logged["segment"],
            context=logged["context"],
            count=ask["count"],
            candidates=None if candidates is None else tuple(candidates),
            withheld=tuple(ask["withheld"]),
            language=ask["language"],
            at=datetime.fromisoformat(logged["asked_at"]),
        )

    def columns(self, inputs: Sequence[Asked | Query], answers: Sequence[Listed]) -> Mapping[str, Sequence[Any]]:
        """A question that no router gave a time counts as asked now."""
        now, task, asked = datetime.now(UTC), Ranking(), asked_of(inputs)
        kept = [
            task.redact(Query(user=one.user, at=one.at or now, segment=one.segment, context=one.context))
            for one in asked
        ]
        return {
            "user": [query.user for query, _ in kept],
            "asked_at": [query.at.isoformat() for query, _ in kept],
            "segment": [query.segment for query, _ in kept],
            "context": [query.context for query, _ in kept],
            "ask": [json.dumps({name: getattr(one, name) for name in _ASK}, ensure_ascii=False) for one in asked],
            "redacted": [changed for _, changed in kept],
            "prediction": [answer.kept for answer in answers],
            "propensities": [json.dumps([round(place.propensity, 9) for place in answer.places]) for answer in answers],
        }


def _key(name: str, row: int, raw: bytes) -> str:
    return admit_key(decoded(name, row, raw), field=f"{name} of row {row}") or ""


def _cut(row: int, raw: bytes, most: int) -> str:
    """A context, cleaned and cut, the bytes first, as a megabyte may come; none where it shows nothing."""
    first = raw[: _LONGEST_CHARACTER * most]
    kept = clean(decoded(CONTEXT, row, first, whole=len(first) == len(raw))[:most])
    return kept if has_visible(kept) else ""


def _names(name: str, row: int, raw: bytes) -> tuple[str, ...] | None:
    """Items out of a JSON list; None where nothing is said."""
    if not raw.strip():
        return None
    named = read_json(name, row, raw, most=_MOST_BYTES, fewer="name fewer items", send="a list of items")
    if not isinstance(named, list) or not all(isinstance(item, str) and not SURROGATE.search(item) for item in named):
        raise DataError(f"{name} of row {row} is no JSON list of texts; send the names of items")
    if len(named) > _MOST_NAMED:
        raise DataError(f"{name} of row {row} names {len(named)} items; name at most {_MOST_NAMED}")
    return tuple(named)


SIDE = _Ranking()
