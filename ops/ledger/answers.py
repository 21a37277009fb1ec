"""Answers to requests that named a key: given again where the same request comes again, and to no other one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update

from perennial.continual.errors import DataError
from perennial.ops.ledger import schema
from perennial.ops.ledger.rows import Conflict
from perennial.ops.ledger.store import Store

__all__ = ["KEPT", "AnswerStore", "KeptAnswer"]

_TABLE = schema.answer
KEPT = timedelta(hours=24)  # an answer
_GIVEN_UP = timedelta(minutes=1)  # a request of a process that died, or is another one


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """What a request was answered with."""

    status: int
    headers: Mapping[str, str]
    body: str


class AnswerStore(Store):
    """The part of the ledger that knows which requests were carried out."""

    def claim_answer(self, key: str, request: str, *, holder: str, resumes: bool = False) -> KeptAnswer | None:
        """Begin a request under its key; return its answer where it was carried out already, else None.

        Args:
            key: of the caller and of what they called the request.
            request: a digest of all that was asked.
            holder: this process. A claim of another one is taken over when it was not renewed for a minute.
            resumes: nothing of this key is under way in this process, so that a claim of its own was left behind.

        Raises:
            DataError: another request has this key.
            Conflict: the same request is being carried out.
        """
        with self._write() as connection:
            now = self._clock()
            claim = {"key": key, "request": request, "holder": holder, "claimed_at": now}
            fresh = self._insert(_TABLE).values(claim).on_conflict_do_nothing()
            if connection.execute(fresh.returning(_TABLE.c.key)).first() is not None:
                return None
            row = connection.execute(select(_TABLE).where(_TABLE.c.key == key).with_for_update()).mappings().first()
            if row is None:
                raise Conflict("the first request of this Idempotency-Key has ended just now; ask again")
            if row["request"] != request:
                raise DataError("this Idempotency-Key was given with another request; use a new key for a new request")
            if row["status"] is not None:
                return KeptAnswer(status=row["status"], headers=row["headers"], body=row["body"])
            left = resumes if row["holder"] == holder else row["claimed_at"] <= now - _GIVEN_UP
            if not left:
                raise Conflict("the request of this Idempotency-Key is being carried out; ask again a little later")
            connection.execute(update(_TABLE).where(_TABLE.c.key == key).values(claim))
            return None

    def renew_answer(self, key: str, *, holder: str) -> None:
        """Say that a claimed request is being carried out still: nobody takes it over for another minute."""
        with self._write() as connection:
            mine = (_TABLE.c.key == key) & (_TABLE.c.holder == holder) & _TABLE.c.status.is_(None)
            connection.execute(update(_TABLE).where(mine).values(claimed_at=self._clock()))

    def keep_answer(self, key: str, answer: KeptAnswer, *, holder: str) -> None:
        """Keep what a claimed request was answered with. A claim that was forgotten meanwhile keeps nothing."""
        values = {"status": answer.status, "headers": dict(answer.headers), "body": answer.body}
        with self._write() as connection:
            connection.execute(update(_TABLE).where(_TABLE.c.key == key, _TABLE.c.holder == holder).values(values))

    def release_answer(self, key: str, *, holder: str) -> None:
        """Give up a claim: the request did nothing, and may come again."""
        with self._write() as connection:
            mine = (_TABLE.c.key == key) & (_TABLE.c.holder == holder) & _TABLE.c.status.is_(None)
            connection.execute(delete(_TABLE).where(mine))

    def forget_answers(self, before: datetime) -> int:
        """Forget requests that were begun before a time; returns how many."""
        with self._write() as connection:
            return connection.execute(delete(_TABLE).where(_TABLE.c.claimed_at < before)).rowcount
