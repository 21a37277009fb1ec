"""What was erased, remembered by digests, so that no late writer brings it back."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, select

from perennial.ops.ledger import schema
from perennial.ops.ledger.rows import Conflict
from perennial.ops.ledger.store import Store, chunks
from perennial.ops.prediction_ids import id_time_us

__all__ = ["ABANDONED", "EVERY_MODEL", "TombstoneStore", "Tombstones", "key_digest"]

EVERY_MODEL = "*"
ABANDONED = timedelta(minutes=5)  # an erasure that gave no sign for so long was killed; a cycle need not wait for it
_TABLE = schema.tombstone


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstones:
    """What of some keys and predictions was erased. A row is asked about with what it carries."""

    keys: dict[str, datetime]  # when each was erased last
    predictions: frozenset[str]

    def cover(self, *, key: str | None, prediction_id: str | None, at: datetime, dated: bool = True) -> bool:
        """Whether such a row may not be stored.

        An erased prediction stays erased. A row of an erased key is refused when it comes from before the erasure: by
        the time in its prediction id or its own time, whichever is earlier. One that is not `dated` cannot tell.
        """
        if prediction_id is not None and prediction_id in self.predictions:
            return True
        erased_at = None if key is None else self.keys.get(key)
        if erased_at is None:
            return False
        asked_us = None if prediction_id is None else id_time_us(prediction_id)
        if asked_us is not None and asked_us < erased_at.timestamp() * 1e6:
            return True
        return not dated or at < erased_at


class TombstoneStore(Store):
    """Base of the parts that store what a person sent; each asks for tombstones inside the transaction of its write.

    A digest covers a secret of this ledger too: a copy of the table, or of the audit log, cannot be compared with a
    list of hashed addresses. Whoever holds the whole ledger can still try a key that he already suspects.
    """

    def erased_among(self, model: str, marks: Sequence[tuple[str | None, str | None, datetime]]) -> tuple[bool, ...]:
        """Tell of each row, by its key, prediction id and time, whether it belongs to what was erased."""
        with self._read() as connection:
            erased = self._tombstones(
                connection, model, keys=[key for key, _, _ in marks], predictions=[name for _, name, _ in marks]
            )
        return tuple(erased.cover(key=key, prediction_id=name, at=at) for key, name, at in marks)

    def _tombstones(
        self, connection: Connection, model: str, *, keys: Iterable[str | None], predictions: Iterable[str | None]
    ) -> Tombstones:
        """What of these was erased from the model, or from every model. Costs one read while nothing ever was."""
        here = _TABLE.c.scope.in_([model, EVERY_MODEL])
        if connection.execute(select(_TABLE.c.digest).where(here).limit(1)).first() is None:
            return Tombstones(keys={}, predictions=frozenset())
        salt = self._salt(connection)
        named = {key_digest(salt, key): key for key in keys if key is not None}
        answered = {_prediction_digest(salt, name): name for name in predictions if name is not None}
        erased: dict[str, datetime] = {}
        for part in chunks([*named, *answered]):
            rows = connection.execute(
                select(_TABLE.c.digest, _TABLE.c.erased_at).where(here, _TABLE.c.digest.in_(part))
            )
            for digest, erased_at in rows:
                erased[digest] = max(erased_at, erased.get(digest, erased_at))
        return Tombstones(
            keys={named[digest]: moment for digest, moment in erased.items() if digest in named},
            predictions=frozenset(answered[digest] for digest in erased if digest in answered),
        )

    def _bury(
        self, connection: Connection, scope: str, at: datetime, *, key: str, predictions: Collection[str] = ()
    ) -> None:
        """Remember an erasure. Repeated, the later time counts."""
        salt = self._salt(connection)
        digests = [key_digest(salt, key), *(_prediction_digest(salt, name) for name in sorted(predictions))]
        for part in chunks(digests):
            statement = self._insert(_TABLE)
            statement = statement.on_conflict_do_update(
                index_elements=["scope", "digest"], set_={"erased_at": statement.excluded.erased_at}
            )
            connection.execute(statement, [{"scope": scope, "digest": d, "erased_at": at} for d in part])

    def _check_no_erasure(self, connection: Connection, model: str) -> None:
        """Raises Conflict while a person's rows are being erased from the model; call it under the model's lock."""
        begun = self._erasure_at(connection, model)
        if begun is not None:
            raise Conflict(
                f"an erasure in {model} is under way since {begun:%H:%M:%S} UTC; try again when it has ended"
            )

    def _erasure_at(self, connection: Connection, model: str) -> datetime | None:
        """When the erasure began that is under way, if one is; one that gave no sign for five minutes is none."""
        table = schema.erasure
        row = connection.execute(select(table).where(table.c.model == model)).mappings().first()
        if row is None or row["seen_at"] < self._clock() - ABANDONED:
            return None
        begun: datetime = row["begun_at"]
        return begun.astimezone(UTC)

    def _salt(self, connection: Connection) -> str:
        return str(connection.scalar(select(schema.tombstone_salt.c.salt)))


def key_digest(salt: str, key: str) -> str:
    return hashlib.sha256(f"{salt} key {key}".encode()).hexdigest()


def _prediction_digest(salt: str, prediction_id: str) -> str:
    return hashlib.sha256(f"{salt} prediction {prediction_id}".encode()).hexdigest()
