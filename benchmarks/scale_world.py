"""A workspace whose ledger and traffic log hold as many rows as one likes, written in bulk through the real schema."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from alembic.script import ScriptDirectory
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from perennial.continual.records import Route
from perennial.ops.app.wiring import open_parts
from perennial.ops.commands.first_version import register
from perennial.ops.ledger import Ledger, VersionRow, version_card
from perennial.ops.ledger.migration import MIGRATIONS
from perennial.ops.ledger.rows import VersionState
from perennial.ops.parts import Parts
from perennial.ops.traffic.columns import schema
from perennial.ops.traffic.parquet import write_parquet
from perennial.ops.traffic.segment import PARQUET, sealed_name

__all__ = ["MODEL", "Sizes", "World", "fill_ledger", "fill_traffic", "opened", "prediction_id"]

MODEL = "intent"
_DAYS = 29  # the rows lie within what is kept
_CLASSES = 150
_BUFFER = 2_000
_FILE_ROWS = 50_000
_TABLES_WITH_ROWS = 1_000_000  # more of what has its own retention there never is


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many rows each large table of the ledger has, and the traffic log; `dimension` of the log's embeddings."""

    ledger: int
    traffic: int
    dimension: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The parts of the workspace, its settings file, and when the first row was made."""

    parts: Parts
    config: Path
    began: datetime
    sizes: Sizes

    def moment(self, row: int, rows: int) -> datetime:
        """When a row was made, of so many rows that are spread evenly."""
        return self.began + timedelta(days=_DAYS) * (row / rows)


def prediction_id(began: datetime, row: int, rows: int) -> str:
    """The id of the row's request; rows of ledger and log with one number are one request where both have as many."""
    first, step = _clock(began, rows)
    return f"{first + int(row * step):012x}{row:020x}"


@contextmanager
def opened(folder: Path, sizes: Sizes, *, ledger_url: str = "") -> Iterator[World]:
    """A workspace with one model, its champion and rows of these sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "perennial.toml"
    config.write_text(
        f'state = "{folder}/var"\nrepository = "{folder}/repository"\nledger_url = "{ledger_url}"\n'
        "[triton]\nhttp = false\n[schedule]\nwarm_jobs = false\n"
        f'[models.{MODEL}]\n[models.{MODEL}.policy]\nkind = "any"\n'
        'policies = [{ kind = "drift" }, { kind = "gain" }, { kind = "feedback_count", at_least = 100_000_000 }]\n',
        encoding="utf-8",
    )
    began = datetime.now(UTC) - timedelta(days=_DAYS)
    parts = open_parts(config)
    try:
        register(parts.ledger, parts.workspace)
        labels = [f"class-{number}" for number in range(_CLASSES)]
        last = max(0, sizes.ledger - min(1_000, sizes.ledger // 10))
        parts.ledger.add_version(
            VersionRow(
                model=MODEL,
                version=1,
                state=VersionState.CHAMPION,
                card=version_card(labels=labels),
                lineage={"last_example_id": last},
            )
        )
        route = Route(model=MODEL, epoch=1, champion=1, resident=(1,))
        parts.ledger.set_route(route, expected_epoch=0, actor="benchmark", reason="first version")
        fill_ledger(parts.ledger, sizes.ledger, began=began, learnt_until=last)
        fill_traffic(parts.workspace.traffic(MODEL), sizes.traffic, began=began, dimension=sizes.dimension)
        yield World(parts=parts, config=config, began=began, sizes=sizes)
    finally:
        parts.close()


def fill_ledger(ledger: Ledger, rows: int, *, began: datetime, learnt_until: int) -> None:
    """Write so many rows of each table that grows, in one transaction; its counters count them."""
    first, step = _clock(began, rows)
    values: dict[str, Any] = {"n": rows, "few": max(1, min(rows // 1_000, 5_000)), "most": min(rows, _TABLES_WITH_ROWS)}
    values |= {"first": first, "step": step, "classes": _CLASSES, "learnt": learnt_until, "model": MODEL}
    values |= {"buffered": min(rows, _BUFFER), "jobs": 5}
    postgresql = ledger.engine.dialect.name == "postgresql"
    with ledger.engine.begin() as connection:
        for statement in _statements(postgresql=postgresql):
            bound = text(statement)
            connection.execute(bound, {name: values[name] for name in bound.compile().params})
        _count(connection)
    if postgresql:
        with ledger.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))


def fill_traffic(root: Path, rows: int, *, began: datetime, dimension: int, file_rows: int = _FILE_ROWS) -> None:
    """Write so many answered requests as compaction leaves them."""
    first, step = _clock(began, rows)
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(file_rows, dimension)).astype(np.float16)
    (root / PARQUET).mkdir(parents=True, exist_ok=True)
    for start in range(0, rows, file_rows):
        numbers = np.arange(start + 1, min(rows, start + file_rows) + 1)
        times = first * 1_000 + (numbers * step * 1_000).astype(np.int64) + 2_000
        table = _traffic_rows(numbers, times, embeddings[: len(numbers)], first=first, step=step)
        name = sealed_name(int(times[0]) - 3_000, int(times[-1]), f"{start:012d}", ".parquet")
        write_parquet(table, root / PARQUET / name, task="text_classification")


def _traffic_rows(
    numbers: NDArray[Any], times: NDArray[Any], embeddings: NDArray[Any], *, first: int, step: float
) -> pa.Table:
    count = len(numbers)
    labels = [f"class-{number % _CLASSES}" for number in numbers.tolist()]
    columns: Mapping[str, object] = {
        "prediction_id": [f"{first + int(row * step):012x}{row:020x}" for row in numbers.tolist()],
        "at": pa.array(times, type=pa.timestamp("us", tz="UTC")),
        "key": [f"caller-{row // 20}" for row in numbers.tolist()],
        "version": np.ones(count, dtype=np.int64),
        "arm": ["champion"] * count,
        "latency_ms": np.full(count, 2.0, dtype=np.float32),
        "redacted": np.zeros(count, dtype=bool),
        "text": [f"text {row} about {label}" for row, label in zip(numbers.tolist(), labels, strict=True)],
        "prediction": labels,
        "confidence": np.random.default_rng(int(numbers[0])).beta(8, 2, count).astype(np.float32),
        "margin": np.full(count, 0.5, dtype=np.float32),
        "entropy": np.full(count, 0.25, dtype=np.float32),
        "tokens": np.full(count, 6, dtype=np.int32),
        "known": np.ones(count, dtype=bool),
    }
    wanted = schema(embeddings.shape[1])
    values = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), embeddings.shape[1])
    arrays = [
        values if field.name == "embedding" else pa.array(columns[field.name], type=field.type) for field in wanted
    ]
    return pa.Table.from_arrays(arrays, schema=wanted)


def postgres_cpu_s(postmaster: int) -> float:
    """Processor time of every process of a server so far."""
    children = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, text=True, check=False).stdout
    return sum(_process_cpu_s(pid) for pid in [str(postmaster), *children.split()])


def _process_cpu_s(pid: str) -> float:
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="utf-8").split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _clock(began: datetime, rows: int) -> tuple[int, float]:
    """The first moment, and the distance of two rows, in milliseconds."""
    return int(began.timestamp() * 1000), _DAYS * 86_400_000 / max(1, rows)


def _count(connection: Connection) -> None:
    """Fill the counters from what was written beside them, as the migration of an older ledger does."""
    migrations = ScriptDirectory(str(MIGRATIONS)).walk_revisions()
    counting = next(script.module for script in migrations if script.revision == "0005")
    counting.count_rows(connection)


def _statements(*, postgresql: bool) -> Iterator[str]:
    """Inserts out of a row of numbers `i`; what the two databases spell differently stands in braces."""
    if postgresql:
        numbers = "generate_series(1, CAST(:{count} AS bigint)) AS s(i)"
        spelt = {
            "id": "lpad(to_hex((:first + floor(i * :step))::bigint), 12, '0') || lpad(to_hex(i), 20, '0')",
            "at": "to_timestamp((:first + i * :step) / 1000.0)",
            "later": "to_timestamp((:first + i * :step) / 1000.0 + 1)",
            "hash": "lpad(to_hex(i), 64, '0')",
            "no": "false",
            "json": "CAST({json} AS json)",
        }
    else:
        numbers = "(WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < :{count}) SELECT i FROM s)"
        stamp = "strftime('%Y-%m-%d %H:%M:%f', (:first + i * :step) / 1000.0{plus}, 'unixepoch') || '000'"
        spelt = {
            "id": "printf('%012x%020x', CAST(:first + i * :step AS INTEGER), i)",
            "at": stamp.format(plus=""),
            "later": stamp.format(plus=" + 1"),
            "hash": "printf('%064x', i)",
            "no": "0",
            "json": "{json}",
        }

    def insert(table: str, columns: str, values: str, count: str, where: str = "") -> str:
        filled = values
        for name, spelling in spelt.items():
            if name != "json":
                filled = filled.replace("{" + name + "}", spelling)
        return f"INSERT INTO {table} ({columns}) SELECT {filled} FROM {numbers.format(count=count)} {where}"

    def json(literal: str) -> str:
        return spelt["json"].format(json=literal.replace(":", r"\:"))

    yield insert(
        "feedback",
        "id, model, prediction_id, target, at, received_at, origin, key, revision, joined_revision, outcome",
        "i, :model, {id}, 'class-' || (i % :classes), {at}, {later}, 'feedback', 'caller-' || (i / 20), 1, 1, 'joined'",
        "n",
    )
    yield insert(
        "feedback_history",
        "id, model, prediction_id, target, at, received_at, origin",
        "i, :model, {id}, 'class-' || (i % :classes), {at}, {later}, 'feedback'",
        "n",
    )
    yield insert(
        "example",
        "id, model, input, input_hash, target, at, origin, key, prediction_id, split, added_at, superseded_at, "
        "redacted",
        "i, :model, 'text ' || i || ' about class-' || (i % :classes), {hash}, 'class-' || (i % :classes), {at}, "
        "'feedback', 'caller-' || (i / 20), {id}, CASE WHEN i % 10 = 0 THEN 'holdout' ELSE 'train' END, {at}, "
        "CASE WHEN i % 50 = 0 THEN {at} END, {no}",
        "n",
    )
    yield insert("learnt", "example_id, version", "i, 1", "n", "WHERE i % 10 <> 0 AND i <= :learnt")
    signal = json(
        '\'{"signal":{"level":"ok","previous":"ok","alert":false,"episode":0,"at_request":0,"votes":0,"signals":[],'
        '"reason":"","changed":false},"comparison":{"version":1,"n_reference":600,"n_current":300,"alpha":0.01,'
        '"permutations":100,"seed":1,"signals":[],"drifted":false},"after_id":"","answers":{}}\''
    )
    yield insert(
        "drift_report",
        "model, version, at, window_from, window_to, rows, state, payload",
        f":model, 1, {{at}}, {{at}}, {{later}}, 300, 'ok', {signal}",
        "most",
    )
    yield insert(
        "command",
        "model, kind, args, actor, requested_at, taken_at, finished_at, outcome",
        f":model, 'retrain', {json(chr(39) + '{}' + chr(39))}, 'benchmark', {{at}}, {{at}}, {{at}}, 'done'",
        "most",
    )
    yield insert(
        "notice",
        "model, alert, episode, channel, claimed_at, sent_at, attempts",
        ":model, 'drift', 'episode-' || i, 'log', {at}, {at}, 1",
        "most",
    )
    yield insert(
        "audit_entry",
        "seq, at, actor, action, model, detail, previous, hash",
        "i + 10, '2026-01-01T00\\:00\\:00+00\\:00', 'benchmark', 'label.given', :model, '{}', {hash}, {hash}",
        "most",
    )
    yield "UPDATE audit_head SET seq = (SELECT max(seq) FROM audit_entry)"
    yield insert(
        "cycle",
        "id, model, reason, state, payload, opened_at, saved_at, closed_at, outcome",
        f"i, :model, 'labels', 'refused', {json(chr(39) + '{}' + chr(39))}, {{at}}, {{at}}, {{at}}, 'refused'",
        "few",
    )
    yield insert(
        "journal_entry",
        "cycle_id, model, step, phase, payload, at",
        f"1 + (i - 1) * :few / :most, :model, 'train', 'outcome', {json(chr(39) + '{}' + chr(39))}, {{at}}",
        "most",
    )
    yield insert(
        "version",
        "model, version, state, parent, cycle_id, card, metrics, lineage, created_at, state_at",
        f":model, i + 1, 'refused', 1, i, {json(chr(39) + '{}' + chr(39))}, {json(chr(39) + '{}' + chr(39))}, "
        f"{json(chr(39) + '{}' + chr(39))}, {{at}}, {{at}}",
        "few",
    )
    yield "UPDATE model SET last_version = (SELECT max(version) FROM version)"
    job = json("'{\"interval_s\":10}'")
    yield insert("job", "name, trigger, paused, next_due", f"'old\\:' || i, {job}, {{no}}, {{at}}", "jobs")
    yield insert(
        "job_run",
        "job, due, attempt, epoch, started_at, finished_at, outcome",
        "'old\\:' || (1 + i % 5), {at}, 1, 1, {at}, {later}, 'done'",
        "most",
    )
    yield insert("tombstone", "scope, digest, erased_at", ":model, {hash}, {at}", "few")
    nothing = json(chr(39) + "{}" + chr(39))
    rng = json('\'{"kind":"keyed","seed":1}\'')
    yield (
        "INSERT INTO buffer (model, kind, capacity, seen, counters, rng, saved_at) "
        f"SELECT :model, 'reservoir', 2000, :buffered, {nothing}, {rng}, max(at) FROM feedback"
    )
    yield insert(
        "buffer_row",
        "model, position, digest, input, target, at, origin, key, redacted",
        ":model, i - 1, {hash}, 'text ' || i, 'class-' || (i % :classes), {at}, 'feedback', 'caller-' || i, {no}",
        "buffered",
    )
    if postgresql:
        for table in ("feedback", "feedback_history", "example", "cycle"):
            yield f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
