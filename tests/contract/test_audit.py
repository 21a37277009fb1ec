"""The audit log proves itself, and tells where it was broken."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, text, update

from perennial.ops.ledger import Ledger
from perennial.ops.ledger.audit import GENESIS
from perennial.ops.ledger.schema import audit_entry, audit_head
from tests.component.databases import BACKENDS, fresh_url

pytestmark = pytest.mark.component


@pytest.fixture(params=BACKENDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(fresh_url(request.param, tmp_path)) as opened:
        yield opened


def written(ledger: Ledger, count: int = 5) -> None:
    for index in range(count):
        ledger.audit("anna", "model.promote", "intent" if index % 2 else None, {"version": index, "why": "größer"})


def test_an_empty_log_is_intact(ledger: Ledger) -> None:
    verdict = ledger.verify_audit()
    assert (verdict.intact, verdict.entries, verdict.broken_seq) == (True, 0, None)
    assert ledger.audit_head() == (0, GENESIS)


def test_entries_chain_by_hashes_that_anybody_can_recompute(ledger: Ledger) -> None:
    written(ledger)
    previous = "0" * 64
    for number, entry in enumerate(ledger.audit_entries(), start=1):
        assert (entry.seq, entry.previous, entry.actor) == (number, previous, "anna")
        facts = {
            "seq": entry.seq,
            "at": entry.at.isoformat(),
            "actor": entry.actor,
            "action": entry.action,
            "model": entry.model,
            "detail": json.dumps(entry.detail, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        }
        plain = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256(f"{previous}\n{plain}".encode()).hexdigest()
        assert entry.hash == previous
    assert ledger.audit_head() == (5, previous)
    assert ledger.verify_audit().intact


def test_entries_are_filtered_by_model_and_paged(ledger: Ledger) -> None:
    written(ledger)
    assert [entry.seq for entry in ledger.audit_entries("intent")] == [2, 4]
    assert [entry.seq for entry in ledger.audit_entries(limit=2)] == [4, 5]
    assert [entry.seq for entry in ledger.audit_entries(since_seq=3)] == [4, 5]


def _change_detail(connection: Connection) -> None:
    changed = update(audit_entry).where(audit_entry.c.seq == 3)
    connection.execute(changed.values(detail='{"version":2,"why":"because"}'))


def _change_actor(connection: Connection) -> None:
    connection.execute(update(audit_entry).where(audit_entry.c.seq == 3).values(actor="ben"))


def _remove(connection: Connection) -> None:
    connection.execute(delete(audit_entry).where(audit_entry.c.seq == 3))


def _rehash(connection: Connection) -> None:
    from perennial.ops.ledger.audit import entry_hash

    row = connection.execute(audit_entry.select().where(audit_entry.c.seq == 3)).mappings().one()
    forged = dict(row) | {"actor": "ben"}
    forged["hash"] = entry_hash(forged["previous"], forged)
    connection.execute(update(audit_entry).where(audit_entry.c.seq == 3).values(forged))


def _cut_tail(connection: Connection) -> None:
    connection.execute(delete(audit_entry).where(audit_entry.c.seq > 3))


def _insert_outside(connection: Connection) -> None:
    connection.execute(
        text(
            "INSERT INTO audit_entry (seq, at, actor, action, detail, previous, hash) "
            "SELECT 6, at, actor, action, detail, hash, hash FROM audit_entry WHERE seq = 5"
        )
    )


def _move_head(connection: Connection) -> None:
    connection.execute(update(audit_head).values(hash="f" * 64))


@pytest.mark.parametrize(
    ("break_it", "broken"),
    [
        (_change_detail, 3),
        (_change_actor, 3),
        (_remove, 3),
        (_rehash, 4),
        (_cut_tail, 4),
        (_insert_outside, 6),
        (_move_head, 5),
    ],
)
def test_a_broken_chain_names_its_first_broken_entry(
    ledger: Ledger, break_it: Callable[[Connection], None], broken: int
) -> None:
    written(ledger)
    with ledger.engine.begin() as connection:
        break_it(connection)
    verdict = ledger.verify_audit()
    assert (verdict.intact, verdict.broken_seq) == (False, broken)
    assert verdict.reason


def test_writers_at_once_make_one_chain_and_a_failed_one_leaves_no_gap(ledger: Ledger) -> None:
    def write(name: str) -> None:
        for index in range(10):
            ledger.audit(name, "act", None, {"i": index})

    def fail() -> None:
        with ledger.transaction():
            ledger.audit("failing", "act", None, {})
            raise RuntimeError("stop")

    threads = [threading.Thread(target=write, args=(f"w{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        with pytest.raises(RuntimeError):
            fail()
    for thread in threads:
        thread.join()
    verdict = ledger.verify_audit()
    assert (verdict.intact, verdict.entries) == (True, 40)
    assert "failing" not in {entry.actor for entry in ledger.audit_entries()}


def test_a_detail_that_no_json_reader_accepts_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        ledger.audit("anna", "act", None, {"effect": float("nan")})
    assert ledger.verify_audit().entries == 0
