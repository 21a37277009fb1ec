"""What timers, scrapes and pages ask of the ledger costs the same however many rows it holds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from benchmarks import scale_world
from benchmarks.scale_world import MODEL, fill_ledger, prediction_id
from perennial.continual.records import Route, Split
from perennial.ops.ledger import Ledger, VersionRow, VersionState, feedback, version_card
from perennial.ops.views.metrics import prometheus_text
from perennial.ops.views.status import model_status
from tests.component.databases import BACKENDS, fresh_url

pytestmark = pytest.mark.component

SIZES = (600, 9_000)
BEGAN = datetime.now(UTC) - timedelta(days=29)
NOW = BEGAN + timedelta(days=29)
OLD = BEGAN - timedelta(days=1)

CALLS: dict[str, Callable[[Ledger], object]] = {
    "status": lambda ledger: model_status(ledger, MODEL),
    "scrape": lambda ledger: prometheus_text(ledger, [MODEL], restarts=0, parts={}, rows_lost={}, answered={}),
    "newest labels": lambda ledger: ledger.newest_feedback(MODEL, 20),
    "labels that changed lately": lambda ledger: ledger.first_feedback(MODEL, 20, since=NOW),
    "labels behind the last": lambda ledger: ledger.first_feedback(MODEL, 20, after_id=ledger.last_feedback_id(MODEL)),
    "labels of a time": lambda ledger: ledger.feedback_count(MODEL, since=NOW),
    "labels that wait": lambda ledger: ledger.pending_feedback(MODEL, 20, due_by=NOW),
    "labels by id": lambda ledger: ledger.feedback_labels(MODEL, [prediction_id(BEGAN, 5, SIZES[0])]),
    "their history": lambda ledger: ledger.given_labels(MODEL, [prediction_id(BEGAN, 5, SIZES[0])]),
    "labels too old": lambda ledger: ledger.forget_feedback(MODEL, OLD),
    "notices too old": lambda ledger: ledger.forget_notices(MODEL, OLD),
    "runs too old": lambda ledger: ledger.forget_runs(OLD),
    "counts of labels": lambda ledger: (ledger.label_counts(MODEL), ledger.contradiction_count(MODEL)),
    "new examples": lambda ledger: ledger.examples(MODEL, since_id=ledger.last_example_id(MODEL), limit=20),
    "new training examples": lambda ledger: ledger.examples(
        MODEL, split=Split.TRAIN, since_id=ledger.last_example_id(MODEL) - 40
    ),
    "examples between": lambda ledger: ledger.example_rows_between(MODEL, 100, 120),
    "the inbox": lambda ledger: (ledger.waiting_commands(MODEL), ledger.commands(MODEL, 20)),
    "the inbox taken": lambda ledger: ledger.take_commands(MODEL),
    "commands taken back": lambda ledger: ledger.reclaim_commands(MODEL),
    "runs taken over": lambda ledger: ledger.reclaim_runs(1),
    "jobs": lambda ledger: [ledger.last_success(job.name) for job in ledger.jobs()],
    "the newest run of each job": lambda ledger: [ledger.job_runs(job.name, 1) for job in ledger.jobs()],
    "the cycle": lambda ledger: (ledger.active_cycle(MODEL), ledger.cycles(MODEL, 1), ledger.newest_attempt(MODEL, 2)),
    "reports": lambda ledger: ledger.drift_reports(MODEL, 20),
    "audit": lambda ledger: ledger.audit_entries(MODEL, since_seq=ledger.audit_head()[0] - 3),
    "the end of the audit": lambda ledger: ledger.audit_entries(MODEL, limit=20),
    "notices": lambda ledger: ledger.notices(MODEL, 20),
    "rows of a key": lambda ledger: ledger.rows_of_key(MODEL, "caller-7"),
    "a key erased": lambda ledger: ledger.erase_key(MODEL, "caller-7"),
}


@contextmanager
def filled(backend: str, folder: Path, rows: int) -> Iterator[Ledger]:
    folder.mkdir()
    with Ledger.open(fresh_url(backend, folder)) as ledger:
        ledger.register_model(MODEL, {})
        ledger.add_version(
            VersionRow(model=MODEL, version=1, state=VersionState.CHAMPION, card=version_card(labels=("class-1",)))
        )
        route = Route(model=MODEL, epoch=1, champion=1, resident=(1,))
        ledger.set_route(route, expected_epoch=0, actor="test", reason="first")
        fill_ledger(ledger, rows, began=BEGAN, learnt_until=rows - 50)
        yield ledger


@contextmanager
def counted(engine: Engine) -> Iterator[list[int]]:
    """How much the database did: instructions of SQLite's machine in tens, or rows that PostgreSQL read."""
    work = [0]

    def count() -> int:
        work[0] += 1
        return 0

    def before(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if engine.dialect.name == "sqlite":
            cursor.connection.set_progress_handler(count, 10)
        elif statement.startswith(("SELECT", "WITH")) and not many:
            with cursor.connection.cursor() as explained:
                explained.execute("SET LOCAL enable_seqscan = off")  # tables this small are read as they are
                explained.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
                work[0] += rows_read(explained.fetchone()[0][0]["Plan"])

    event.listen(engine, "before_cursor_execute", before)
    try:
        yield work
    finally:
        event.remove(engine, "before_cursor_execute", before)
        if engine.dialect.name == "sqlite":
            engine.dispose()


def rows_read(plan: dict[str, Any]) -> int:
    """Rows that the leaves of a plan gave or threw away."""
    inner = sum(rows_read(part) for part in plan.get("Plans", ()))
    if "Relation Name" not in plan:
        return inner
    removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    return inner + int((plan["Actual Rows"] + removed) * plan["Actual Loops"])


@pytest.fixture(autouse=True)
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is bounded by a number of its own is as small in both."""
    monkeypatch.setattr(scale_world, "_BUFFER", 100)
    monkeypatch.setattr(feedback, "_FEW", 100)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_call_reads_more_of_a_larger_ledger(backend: str, tmp_path: Path) -> None:
    work: dict[str, list[int]] = {name: [] for name in CALLS}
    for rows in SIZES:
        with filled(backend, tmp_path / str(rows), rows) as ledger:
            for name, call in CALLS.items():
                with counted(ledger.engine) as done:
                    call(ledger)
                work[name].append(done[0])
    grown = {name: (small, large) for name, (small, large) in work.items() if large > 2 * small + 60}
    assert grown == {}
    assert work["newest labels"][1] >= 5, "something was counted"


def test_postgresql_answers_a_small_question_by_itself_unless_the_url_says_otherwise(tmp_path: Path) -> None:
    url = fresh_url("postgresql", tmp_path)
    apart = "&" if "?" in url else "?"
    told, while_connecting = [], []
    for asked in (url, f"{url}{apart}options=-c%20jit%3Don"):
        with Ledger.open(asked) as ledger, ledger.engine.connect() as connection:
            settings = [connection.scalar(text(f"SHOW {name}")) for name in ("jit", "max_parallel_workers_per_gather")]
            told.append(settings)
            driver: Any = connection.connection.driver_connection
            while_connecting.append(driver.info.options)
    assert told == [["off", "0"], ["on", "0"]]
    assert while_connecting == ["", "-c jit=on"], "a pooler refuses options that nobody gave it"


def test_a_walk_through_the_table_would_be_noticed(tmp_path: Path) -> None:
    work = []
    for rows in SIZES:
        with filled("sqlite", tmp_path / str(rows), rows) as ledger, counted(ledger.engine) as done:
            with ledger.engine.connect() as connection:
                connection.execute(text("SELECT count(*) FROM feedback WHERE model = 'intent' AND origin = 'x'"))
            work.append(done[0])
    assert work[1] > 2 * work[0] + 60
