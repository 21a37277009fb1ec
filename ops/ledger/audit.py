"""The audit log: append-only, each entry's hash covers the entry before it.

Whoever changes, removes or inserts an entry breaks the chain from there on; whoever cuts the tail leaves a head that
tells of more. Somebody who may rewrite the whole database can rebuild the whole chain: print `audit_head` elsewhere
from time to time if that matters.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from perennial.ops.ledger import schema
from perennial.ops.ledger.rows import AuditEntry, AuditVerdict
from perennial.ops.ledger.store import Store

__all__ = ["GENESIS", "AuditStore", "canonical", "entry_hash"]

GENESIS = "0" * 64
_PAGE = 1000


def canonical(value: Any) -> str:
    """Return JSON with sorted keys and no spaces, so that equal values hash equal.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=str)


def entry_hash(previous: str, row: Mapping[str, Any]) -> str:
    """Return the SHA-256 over the previous hash and this entry's canonical form."""
    facts = {name: row[name] for name in ("seq", "at", "actor", "action", "model", "detail")}
    return hashlib.sha256(f"{previous}\n{canonical(facts)}".encode()).hexdigest()


class AuditStore(Store):
    """The part of the ledger that remembers who did what, and can prove it."""

    def audit(self, actor: str, action: str, model: str | None, detail: Mapping[str, Any]) -> AuditEntry:
        """Append one entry and return it. Inside `transaction()` it is kept only if the rest is.

        Not idempotent: a retry appends a second entry. Entries are in the order in which their transactions committed.
        """
        with self._write() as connection:
            return self._append_audit(connection, actor=actor, action=action, model=model, detail=detail)

    def audit_entries(
        self,
        model: str | None = None,
        *,
        limit: int | None = None,
        since_seq: int = 0,
        before_seq: int | None = None,
    ) -> tuple[AuditEntry, ...]:
        """Return entries after `since_seq` and before `before_seq`, oldest first; with `limit`, the newest of them."""
        statement = select(schema.audit_entry).where(schema.audit_entry.c.seq > since_seq)
        if before_seq is not None:
            statement = statement.where(schema.audit_entry.c.seq < before_seq)
        if model is not None:
            statement = statement.where(schema.audit_entry.c.model == model)
        statement = statement.order_by(schema.audit_entry.c.seq.desc()).limit(limit)
        with self._read() as connection:
            rows = connection.execute(statement).mappings().all()
        return tuple(_entry(dict(row)) for row in reversed(rows))

    def audit_head(self) -> tuple[int, str]:
        """Return the number and hash of the newest entry: what to print elsewhere as evidence."""
        with self._read() as connection:
            row = connection.execute(select(schema.audit_head)).first()
        return (0, GENESIS) if row is None else (row.seq, row.hash)

    def verify_audit(self) -> AuditVerdict:
        """Recompute the chain and name the first entry that does not fit. Costs one pass over the log."""
        previous, seq = GENESIS, 0
        with self._read() as connection:
            head = connection.execute(select(schema.audit_head)).first()
            while rows := connection.execute(_page(seq)).mappings().all():
                for row in rows:
                    if reason := _fault(row, seq + 1, previous):
                        return AuditVerdict(intact=False, entries=seq, broken_seq=seq + 1, reason=reason)
                    previous, seq = row["hash"], seq + 1
        claimed = (0, GENESIS) if head is None else (head.seq, head.hash)
        if claimed[0] > seq or (claimed[0] == seq and claimed[1] != previous):
            reason = (
                f"the head tells of entry {claimed[0]} ({claimed[1][:12]}); the log ends at {seq} ({previous[:12]})"
            )
            return AuditVerdict(intact=False, entries=seq, broken_seq=min(seq + 1, claimed[0]), reason=reason)
        if claimed[0] < seq:  # under READ COMMITTED an entry may be committed after the head was read
            return self._verdict_behind_head(claimed, seq)
        return AuditVerdict(intact=True, entries=seq)

    def _verdict_behind_head(self, claimed: tuple[int, str], seq: int) -> AuditVerdict:
        if self.audit_head()[0] >= seq:
            return AuditVerdict(intact=True, entries=seq)
        reason = f"the log has {seq} entries but its head tells of {claimed[0]}; entries were added outside the ledger"
        return AuditVerdict(intact=False, entries=claimed[0], broken_seq=claimed[0] + 1, reason=reason)

    def _append_audit(
        self, connection: Connection, *, actor: str, action: str, model: str | None, detail: Mapping[str, Any]
    ) -> AuditEntry:
        seq, previous = self._next_link(connection)
        row = {
            "seq": seq,
            "at": self._clock().isoformat(),
            "actor": actor,
            "action": action,
            "model": model,
            "detail": canonical(dict(detail)),
        }
        row |= {"previous": previous, "hash": entry_hash(previous, row)}
        connection.execute(insert(schema.audit_entry).values(row))
        connection.execute(update(schema.audit_head).values(hash=row["hash"]))
        return _entry(row)

    def _next_link(self, connection: Connection) -> tuple[int, str]:
        """Count the head on, which also keeps every other writer out of the chain until this transaction ends."""
        step = update(schema.audit_head).values(seq=schema.audit_head.c.seq + 1)
        row = connection.execute(step.returning(schema.audit_head.c.seq, schema.audit_head.c.hash)).one()
        return row.seq, row.hash


def _page(after: int) -> Any:
    table = schema.audit_entry
    return select(table).where(table.c.seq > after).order_by(table.c.seq).limit(_PAGE)


def _fault(row: RowMapping, expected: int, previous: str) -> str | None:
    if row["seq"] != expected:
        return f"entry {expected} is missing; the next one is {row['seq']}"
    if row["previous"] != previous:
        return f"entry {expected} names previous hash {row['previous'][:12]}, the chain has {previous[:12]}"
    if row["hash"] != (computed := entry_hash(previous, dict(row))):
        return f"entry {expected} has hash {row['hash'][:12]}, its content gives {computed[:12]}"
    return None


def _entry(row: Mapping[str, Any]) -> AuditEntry:
    return AuditEntry(**dict(row) | {"at": datetime.fromisoformat(row["at"]), "detail": json.loads(row["detail"])})
