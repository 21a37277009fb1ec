"""Opening a ledger: new, old, newer than us, unreachable; and what survives a kill."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, NullPool, create_engine, text

from perennial.continual.errors import ConfigurationError, DependencyUnreachable, NotFound
from perennial.ops.ledger import FeedbackRow, Ledger
from perennial.ops.ledger.migration import MIGRATIONS
from perennial.ops.ledger.schema import REVISION, UtcTime, metadata
from tests.component.databases import BACKENDS, PostgresServer, empty_url, fresh_url

pytestmark = pytest.mark.component

AT = datetime(2026, 1, 1, tzinfo=UTC)


def _engine(url: str) -> Engine:
    """An engine beside the ledger's that leaves no connection open."""
    return create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return fresh_url(request.param, tmp_path)


@pytest.fixture(params=BACKENDS)
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any schema."""
    with empty_url(request.param, tmp_path / "deep" / "er") as url:
        yield url


def test_the_declared_revision_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def test_the_migrations_make_exactly_the_declared_tables(url: str) -> None:
    def compare_type(_: object, __: object, ___: object, declared: object, ____: object) -> bool | None:
        return False if isinstance(declared, UtcTime) else None

    with Ledger.open(url) as ledger, ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": compare_type})
        assert compare_metadata(context, metadata) == []


def test_many_openers_of_a_new_database_migrate_it_once(new_url: str) -> None:
    errors: list[BaseException] = []
    gate = threading.Barrier(5)

    def open_it(index: int) -> None:
        gate.wait()
        try:
            with Ledger.open(new_url) as ledger:
                ledger.register_model(f"m{index}", {})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it, args=(index,)) for index in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Ledger.open(new_url) as ledger:
        assert [row.name for row in ledger.models()] == [f"m{index}" for index in range(5)]
        ledger.audit("a", "b", None, {})
        assert ledger.verify_audit().entries == 1


def test_no_opener_of_a_new_file_finds_it_locked(tmp_path: Path) -> None:
    """SQLite refuses a change to WAL at once, without its busy timeout: seen in one opening of a hundred."""
    for number in range(25):
        url, gate = f"sqlite:///{tmp_path / str(number)}.db", threading.Barrier(8)

        def open_it(url: str = url, gate: threading.Barrier = gate) -> None:
            gate.wait()
            Ledger.open(url).close()

        with ThreadPoolExecutor(8) as pool:
            for opened in [pool.submit(open_it) for _ in range(8)]:
                opened.result()


def test_a_newer_schema_is_refused_with_both_numbers(url: str) -> None:
    with Ledger.open(url) as ledger, ledger.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9042'"))
    try:
        with pytest.raises(ConfigurationError, match=f"schema 9042; this release knows up to {REVISION}"):
            Ledger.open(url)
    finally:
        with _engine(url).begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :known"), {"known": REVISION})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://host/db", "allowed are sqlite and postgresql"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
    ],
)
def test_a_wrong_url_is_a_configuration_error(wrong: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Ledger.open(wrong)


def test_a_file_that_is_no_database_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(DependencyUnreachable, match="not a database"):
        Ledger.open(f"sqlite:///{path}")


def test_a_server_that_is_not_there_is_unreachable_and_its_password_is_not_told() -> None:
    with pytest.raises(DependencyUnreachable) as refusal:
        Ledger.open("postgresql://anna:hunter2@127.0.0.1:9/ledger")
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.exit_code == 3


def test_a_server_that_dies_and_comes_back_is_reached_again() -> None:
    server = PostgresServer.start()
    try:
        ledger = Ledger.open(server.url())
        ledger.register_model("intent", {})
        with ledger.engine.connect() as connection:
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            )
        assert [row.name for row in ledger.models()] == ["intent"]
    finally:
        server.stop()
    with pytest.raises(DependencyUnreachable):
        ledger.models()
    ledger.close()


def test_sqlite_waits_for_another_writer_and_then_goes_on(tmp_path: Path) -> None:
    url = fresh_url("sqlite", tmp_path)
    with Ledger.open(url) as ledger:
        ledger.register_model("intent", {})
        other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, other.execute, ["COMMIT"])
        timer.start()
        assert ledger.next_version("intent") == 1
        timer.join()
        other.close()


def test_writers_of_one_process_take_turns_and_one_that_waits_too_long_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(fresh_url("sqlite", tmp_path)) as ledger:
        ledger.register_model("intent", {})
        inside, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with ledger.transaction():
                inside.set()
                leave.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        assert inside.wait(30)
        monkeypatch.setattr("perennial.ops.ledger.store.BUSY_S", 0.05)
        with pytest.raises(DependencyUnreachable, match=r"another thread kept it locked for 0\.05 s"):
            ledger.next_version("intent")
        monkeypatch.undo()
        threading.Timer(0.1, leave.set).start()
        assert ledger.next_version("intent") == 1
        holder.join(30)


def test_sqlite_is_durable_and_checked(tmp_path: Path) -> None:
    with Ledger.open(fresh_url("sqlite", tmp_path)) as ledger, ledger.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


WRITER = """
import sys
from datetime import UTC, datetime
from perennial.ops.ledger import FeedbackRow, Ledger

ledger = Ledger.open(sys.argv[1])
for number in range(100_000):
    row = FeedbackRow(prediction_id=f"p{number}", label="a", at=datetime(2026, 1, 1, tzinfo=UTC))
    ledger.add_feedback("intent", [row])
    print(number, flush=True)
"""


def test_acknowledged_feedback_survives_a_kill_of_its_writer(url: str) -> None:
    with Ledger.open(url) as ledger:
        ledger.register_model("intent", {})
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
        )
        assert writer.stdout is not None
        acknowledged = -1
        for line in writer.stdout:
            acknowledged = int(line)
            if acknowledged == 30:
                os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert acknowledged >= 30
        kept = ledger.feedback_labels("intent", [f"p{number}" for number in range(acknowledged + 1)])
        assert len(kept) == acknowledged + 1
        assert ledger.feedback_count("intent") - len(kept) in {0, 1}  # the one written but not yet acknowledged


def test_a_write_for_an_unknown_model_says_so(url: str) -> None:
    with Ledger.open(url) as ledger, pytest.raises(NotFound, match="'ghost' is not in the ledger"):
        ledger.add_feedback("ghost", [FeedbackRow(prediction_id="p", label="a", at=AT)])
