"""What each timer, scrape, page and command costs by the size of ledger and traffic log, in processor time.

    python -m benchmarks.scale [--rows 10000,1000000] [--backends sqlite,postgresql] [--traffic 100000000]
                               [--backlog 10000000] [--only 'label queue,schedule list']

A call's milliseconds are the processor time of this process and, where there is one, of the PostgreSQL server: the
least of several calls, so that a busy machine does not show. The first call after an opening is told apart.
"""

import argparse
import contextlib
import io
import logging
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.scale_world import MODEL, Sizes, World, fill_traffic, opened, postgres_cpu_s, prediction_id
from perennial.continual.errors import DependencyUnreachable, PerennialError
from perennial.continual.jobs.memory import resident_mb
from perennial.ops.app.service import Service
from perennial.ops.commands.erasing.search import Sought, beginnings_of
from perennial.ops.comparing.live_evidence import LiveEvidenceReader
from perennial.ops.ledger import FeedbackRow
from perennial.ops.views.metrics import prometheus_text
from perennial.ops.views.status import model_status

__all__ = ["Cost", "caught_up", "main", "measured"]

_ROUNDS = 3
_MOST_MS = 50.0
_COMMANDS = (
    ("status",),
    ("model", "list"),
    ("model", "show", "1"),
    ("drift", "watch"),
    ("schedule", "list"),
    ("audit", "show"),
    ("rollout", "show"),
    ("label", "queue"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One call's processor time: the least of the calls, and the first."""

    kind: str
    name: str
    ms: float
    first_ms: float
    error: str = ""


class Meter:
    """Counts processor time of this process and of a database server."""

    def __init__(self, postmaster: int | None, only: Sequence[str] = ()) -> None:
        self._postmaster, self._only = postmaster, only
        self.costs: list[Cost] = []

    def cpu_ms(self) -> float:
        """Processor time so far."""
        server = 0.0 if self._postmaster is None else postgres_cpu_s(self._postmaster)
        return 1_000 * (time.process_time() + server)

    def take(self, kind: str, name: str, call: Callable[[], object], *, rounds: int = _ROUNDS) -> None:
        """Measure a call, where it is one of those that are wanted."""
        if self._only and not any(part in name for part in self._only):
            return
        spent, error = list[float](), ""
        for _ in range(rounds):
            before = self.cpu_ms()
            try:
                call()
            except PerennialError as exc:
                error = f"{type(exc).__name__}: {exc}"[:120]
            spent.append(self.cpu_ms() - before)
        self.costs.append(Cost(kind=kind, name=name, ms=min(spent), first_ms=spent[0], error=error))


def measured(world: World, *, postmaster: int | None = None, only: Sequence[str] = ()) -> list[Cost]:
    """The costs of everything that is asked again and again, and of what people ask; `only` names parts of names."""
    meter = Meter(postmaster, only)
    service = Service(world.parts)
    _timers(meter, world, service)
    _views(meter, world, service)
    _routes(meter, world, service)
    _commands(meter, world)
    _writes(meter, world)
    return meter.costs


def _timers(meter: Meter, world: World, service: Service) -> None:
    ledger, loop = world.parts.ledger, service.roster.loops[MODEL]
    meter.take("catching up", "watch", loop.watch, rounds=1)
    for _ in range(4):  # windows that came meanwhile
        loop.watch()
    meter.take("timer", "watch", loop.watch)
    meter.take("timer", "retrain check", loop.check, rounds=5)
    meter.take("timer", "report", loop.report)
    meter.take("timer", "compact", loop.compact)
    meter.take("timer", "retention", loop.retain)
    notices = service._follower._notices
    meter.take("timer", "notify", lambda: notices.notify(MODEL))
    meter.take("timer", "inbox", lambda: (ledger.active_cycle(MODEL), ledger.take_commands(MODEL)))
    meter.take("timer", "reclaim commands", lambda: ledger.reclaim_commands(MODEL))
    meter.take("timer", "reclaim runs", lambda: ledger.reclaim_runs(1))
    meter.take("timer", "forget runs", lambda: ledger.forget_runs(datetime.now(UTC) - timedelta(days=60)))
    meter.take("timer", "health of the ledger", ledger.ping)
    meter.take("timer", "labels an hour", lambda: ledger.feedback_count(MODEL, since=_hours_ago(24)))
    for promoted in (False, True):
        name = "probation" if promoted else "canary"
        reader = _evidence(world, service)
        began = datetime.now(UTC) - timedelta(hours=1)
        look = _look(reader, began, promoted=promoted)
        meter.take("catching up", f"{name} begins", look, rounds=1)
        meter.take("timer", f"{name} looks", look, rounds=5)


def _evidence(world: World, service: Service) -> LiveEvidenceReader:
    def ask(version: int, inputs: Any) -> Any:
        raise DependencyUnreachable(f"version {version} is not asked in a benchmark")

    loop, ticks = service.roster.loops[MODEL], iter(range(10**6))
    return LiveEvidenceReader(
        world.parts.ledger, world.parts.workspace, MODEL, loop.traffic, ask, clock=lambda: 10.0 * next(ticks)
    )


def _look(reader: LiveEvidenceReader, began: datetime, *, promoted: bool) -> Callable[[], object]:
    return lambda: reader.read(champion=1, challenger=2, since=began, latency_ratio=1.5, promoted=promoted)


def _views(meter: Meter, world: World, service: Service) -> None:
    ledger = world.parts.ledger
    meter.take("view", "model status", lambda: model_status(ledger, MODEL))
    meter.take(
        "scrape", "figures", lambda: prometheus_text(ledger, [MODEL], restarts=0, parts={}, rows_lost={}, answered={})
    )
    meter.take("scrape", "/metrics", service.control.metrics)


def _routes(meter: Meter, world: World, service: Service) -> None:
    from fastapi.routing import APIRoute
    from fastapi.testclient import TestClient

    from perennial.ops.api.app import create_api

    api = create_api(world.parts.ledger, service.control, service.feed, world.parts.settings.api)
    client = TestClient(api, base_url="http://127.0.0.1", raise_server_exceptions=False)
    for route in api.routes:
        if not isinstance(route, APIRoute) or "GET" not in (route.methods or ()):
            continue
        path = route.path.replace("{model}", MODEL)
        if path == "/healthz/ready":  # which asks Triton, and there is none
            continue
        for name in ("{number}", "{version}", "{name}", "{user}", "{label}", "{prediction_id}", "{key}"):
            path = path.replace(name, "1")
        meter.take("page", f"GET {route.path}", lambda path=path: client.get(path))  # type: ignore[misc]


def _commands(meter: Meter, world: World) -> None:
    from typer.testing import CliRunner

    from perennial.ops.cli.main import app

    runner = CliRunner()
    for words in _COMMANDS:
        called = [*words, "--config", str(world.config)]

        def call(called: list[str] = called) -> None:
            result = runner.invoke(app, called)
            if result.exit_code:
                raise DependencyUnreachable(f"exit {result.exit_code}: {result.output[-80:]!r} {result.exception!r}")

        meter.take("command", " ".join(words), call)


def _writes(meter: Meter, world: World) -> None:
    """What callers and erasures do; each call has rows of its own."""
    ledger, rows = world.parts.ledger, world.sizes.ledger
    fresh, erased = iter(range(10**9)), iter(range(1, 10**9))
    now = datetime.now(UTC)

    def give() -> None:
        given = [
            FeedbackRow(prediction_id=prediction_id(now, next(fresh), 10**9), label="class-1", at=now)
            for _ in range(100)
        ]
        ledger.add_feedback(MODEL, given)

    meter.take("write", "100 labels", give)
    log = world.parts.workspace.traffic(MODEL)
    from perennial.ops.traffic import TrafficLog

    traffic = TrafficLog(log)
    meter.take("write", "erase a key in the ledger", lambda: ledger.erase_key(MODEL, f"caller-{next(erased)}"))
    keys = iter(range(100, 10**9))

    def erase_traffic() -> None:
        key = f"caller-{next(keys)}"
        traffic.bar(key, now)
        traffic.erase(key)

    meter.take("erasure", "a key in the traffic log", erase_traffic)
    sought = beginnings_of(Sought(keys=frozenset({"caller-"})))  # every key begins so: each index with copies is mended
    copies = lambda: ledger.leave_no_copies(sought.found_in_bytes)  # noqa: E731
    with _writing(give) as waited_ms:
        meter.take("erasure", "copies in the database's file", copies, rounds=1)
    meter.costs.append(Cost(kind="erasure", name="a writer waited meanwhile, wall", ms=max(waited_ms), first_ms=0.0))
    ids = [prediction_id(world.began, row, rows) for row in range(1, rows, max(1, rows // 2_000))]
    columns = ["prediction_id", "prediction"]
    meter.take("stream", f"look-up of {len(ids)} ids from all of the log", lambda: traffic.lookup(ids, columns))


@contextlib.contextmanager
def _writing(give: Callable[[], None]) -> Iterator[list[float]]:
    """Another thread gives labels again and again; how long each call took, in milliseconds of wall time."""
    over, took = threading.Event(), [0.0]

    def write() -> None:
        while not over.wait(0.02):
            began = time.monotonic()
            give()
            took.append(1_000 * (time.monotonic() - began))

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def caught_up(rows: int) -> dict[str, float]:
    """What it takes to go on after an outage of the control process in which so many requests were answered."""
    sizes = Sizes(ledger=1_000, traffic=2_000, dimension=8)
    with tempfile.TemporaryDirectory(prefix="scale-") as folder, opened(Path(folder), sizes) as world:
        loop = Service(world.parts).roster.loops[MODEL]
        while loop.watch():
            pass
        began = world.began + timedelta(hours=1)
        fill_traffic(world.parts.workspace.traffic(MODEL), rows, began=began, dimension=sizes.dimension)
        before_mib, wall, cpu = resident_mb(), time.monotonic(), time.process_time()
        windows = 0
        while told := loop.watch():
            windows += int(told.split()[0])
        watched_s, watched_wall_s = time.process_time() - cpu, time.monotonic() - wall
        cpu = time.process_time()
        loop.compact()
        return {
            "rows": rows,
            "windows": windows,
            "watch_cpu_s": watched_s,
            "watch_wall_s": watched_wall_s,
            "compact_cpu_s": time.process_time() - cpu,
            "resident_before_mib": before_mib,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def _hours_ago(hours: float) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


@contextlib.contextmanager
def _database(backend: str) -> Iterator[tuple[str, int | None]]:
    if backend == "sqlite":
        yield "", None
        return
    from tests.component.databases import PostgresServer

    server = PostgresServer.start()
    try:
        yield server.url(), server.pid
    finally:
        server.stop()


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="10000,100000,1000000", help="of each large table; comma-separated")
    parser.add_argument("--traffic", type=int, default=0, help="rows of the traffic log; as many as the ledger's")
    parser.add_argument("--backends", default="sqlite,postgresql")
    parser.add_argument("--backlog", type=int, default=0, help="requests behind the watch, after an outage")
    parser.add_argument("--only", default="", help="measure the calls whose names hold one of these; comma-separated")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    logging.disable(logging.ERROR)
    results: list[dict[str, Any]] = []
    backlog = caught_up(arguments.backlog) if arguments.backlog else None
    if backlog is not None:
        print(f"backlog: {backlog}", flush=True)
    for backend in filter(None, arguments.backends.split(",")):
        for rows in (int(each) for each in arguments.rows.split(",")):
            sizes = Sizes(ledger=rows, traffic=arguments.traffic or rows)
            with tempfile.TemporaryDirectory(prefix="scale-") as folder, _database(backend) as (url, postmaster):
                began = time.monotonic()
                with opened(Path(folder), sizes, ledger_url=url) as world:
                    filled_s = time.monotonic() - began
                    costs = measured(world, postmaster=postmaster, only=[*filter(None, arguments.only.split(","))])
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            results.append(
                {
                    "backend": backend,
                    "rows": rows,
                    "traffic": sizes.traffic,
                    "filled_s": filled_s,
                    "peak_mib": peak_mib,
                    "costs": {f"{cost.kind}: {cost.name}": [cost.ms, cost.first_ms, cost.error] for cost in costs},
                }
            )
            print(f"{backend} {rows:,} rows: written in {filled_s:.0f} s, peak {peak_mib:.0f} MiB", flush=True)
    record.write("scale", {"runs": results, "backlog": backlog, "limit_ms": _MOST_MS}, arguments.out)
    if results:
        print(_table(results))


def _table(results: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    heads = [f"{run['backend'][:6]} {run['rows']:.0e}" for run in results]
    print(f"{'processor ms':52}", *(f"{head:>14}" for head in heads), file=out)
    for name in results[0]["costs"]:
        cells = [run["costs"].get(name) for run in results]
        shown = [f"{'-':>14}" if cell is None else f"{cell[0]:>12.1f}{'!' if cell[2] else ' '} " for cell in cells]
        print(f"{name[:52]:52}", *shown, file=out)
    for name, cell in results[0]["costs"].items():
        if cell[2]:
            print(f"! {name}: {cell[2]}", file=out)
    return out.getvalue()


if __name__ == "__main__":
    main()
