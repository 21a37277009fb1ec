"""Two schedulers on one database, the leader killed again and again: did each tick run exactly once?

    python -m benchmarks.scheduler [--ticks 200] [--kills 5]

A tick's effect is one more entry in the audit log, which would show a doubled or a lost tick: nothing about it is
idempotent, but it commits together with the end of its run.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import record
from perennial.ops.ledger import Ledger
from perennial.ops.scheduling import Catch, JobRun, JobSpec, Leader, LoopScheduler

__all__ = ["drill", "main"]

_POLL_S = 0.1
_SCHEDULERS = 2


def drill(url: str, *, ticks: int, kills: int, interval_s: float = 0.2, seed: int = 0, limit_s: float = 240) -> Any:
    """Let two schedulers run `ticks` ticks while their leader is killed `kills` times; return what was counted.

    Raises:
        TimeoutError: the ticks were not done within `limit_s`.
    """
    chance = random.Random(seed)
    workers: dict[int, subprocess.Popen[bytes]] = {}
    leads_ms: list[float] = []
    ticks_ms: list[float] = []
    end = time.monotonic() + limit_s
    with Ledger.open(url) as ledger:
        try:
            for _ in range(_SCHEDULERS):
                _spawn(workers, url, interval_s)
            for number in range(1, kills + 1):
                _until(lambda n=number: _done(ledger) >= n * ticks // (kills + 1), end)  # type: ignore[misc]
                _until(lambda: _standing_by(ledger, workers), end)
                time.sleep(chance.uniform(0, interval_s))
                leads, next_tick = _kill_leader(ledger, workers, end)
                leads_ms.append(leads)
                ticks_ms.append(next_tick)
                _spawn(workers, url, interval_s)
            _until(lambda: _done(ledger) >= ticks, end)
        finally:
            for worker in workers.values():
                worker.kill()
                worker.wait()
        return _verdict(ledger, ticks, interval_s) | {
            "kills": kills,
            "failover_ms": leads_ms,
            "next_tick_ms": ticks_ms,
            "failover_ms_max": max(leads_ms, default=0.0),
        }


def _verdict(ledger: Ledger, ticks: int, interval_s: float) -> dict[str, Any]:
    entries = [entry.detail for entry in ledger.audit_entries() if entry.action == "tick"]
    counts = Counter(datetime.fromisoformat(entry["slot"]) for entry in entries)
    first, last = min(counts), max(counts)
    step = timedelta(seconds=interval_s)
    expected = {first + index * step for index in range((last - first) // step + 1)}
    return {
        "ticks": len(expected),
        "once": sum(counts[slot] == 1 for slot in expected),
        "doubled": sum(count > 1 for count in counts.values()),
        "lost": len(expected - set(counts)),
        "wanted": ticks,
        "interrupted_and_run_again": sum(entry["attempt"] > 1 for entry in entries),
        "leaders": len({entry["epoch"] for entry in entries}),
        "audit_intact": ledger.verify_audit().intact,
    }


def _kill_leader(ledger: Ledger, workers: "dict[int, subprocess.Popen[bytes]]", end: float) -> tuple[float, float]:
    """Kill the leader; return how long until another one leads, and until it has run a tick, in milliseconds."""
    epoch, pid = _lease(ledger)
    leader = workers.pop(pid)
    start = time.monotonic()
    leader.send_signal(signal.SIGKILL)
    leader.wait()
    _until(lambda: _lease(ledger)[0] > epoch, end, pause_s=0.01)
    leads = time.monotonic()
    before = _done(ledger)
    _until(lambda: _done(ledger) > before, end, pause_s=0.01)
    return 1000 * (leads - start), 1000 * (time.monotonic() - start)


def _spawn(workers: "dict[int, subprocess.Popen[bytes]]", url: str, interval_s: float) -> None:
    command = [sys.executable, "-m", "benchmarks.scheduler", "--worker", url, "--interval", str(interval_s)]
    worker = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    workers[worker.pid] = worker


def _standing_by(ledger: Ledger, workers: "dict[int, subprocess.Popen[bytes]]") -> bool:
    """Return whether one of the workers leads and all others have said that they stand for election."""
    ready = {entry.detail["pid"] for entry in ledger.audit_entries() if entry.action == "ready"}
    return _lease(ledger)[1] in workers and set(workers) <= ready


def _lease(ledger: Ledger) -> tuple[int, int]:
    held = ledger.lease("loop")
    return (0, 0) if held is None else (held[0], int(held[1]))


def _done(ledger: Ledger) -> int:
    return sum(entry.action == "tick" for entry in ledger.audit_entries())


def _until(true: Callable[[], bool], end: float, *, pause_s: float = 0.05) -> None:
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("the schedulers did not get this far in time")
        time.sleep(pause_s)


def _work(url: str, interval_s: float) -> None:
    ledger = Ledger.open(url)

    def tick(run: JobRun) -> None:
        time.sleep(random.uniform(0, interval_s * 0.7))  # so that many kills fall into a run
        facts = {"slot": run.slot.isoformat(), "attempt": run.attempt, "epoch": run.fence.epoch, "pid": os.getpid()}
        with ledger.transaction():
            ledger.audit("scheduler", "tick", None, facts)
            run.finish()

    job = JobSpec(name="tick", action=tick, interval_s=interval_s, catch=Catch.EACH)
    leader = Leader(ledger, holder=str(os.getpid()), poll_s=_POLL_S)
    scheduler = LoopScheduler(ledger, [job], leader=leader, poll_s=_POLL_S / 2)
    scheduler.start()
    ledger.audit("scheduler", "ready", None, {"pid": os.getpid()})
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    scheduler.stop()


def main() -> None:
    """Run the drill on both databases and write `benchmarks/out/scheduler.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=200)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--interval", type=float, default=0.2)
    parser.add_argument("--worker", metavar="URL", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        _work(chosen.worker, chosen.interval)
        return
    from tests.component.databases import PostgresServer

    server = PostgresServer.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            urls = {"sqlite": f"sqlite:///{folder}/ledger.db", "postgresql": server.url()}
            results = {
                name: drill(url, ticks=chosen.ticks, kills=chosen.kills, interval_s=chosen.interval)
                for name, url in urls.items()
            }
    finally:
        server.stop()
    for name, found in results.items():
        middle = statistics.median(found["failover_ms"] or [0.0])
        print(
            f"{name:11} ticks {found['ticks']}  once {found['once']}  doubled {found['doubled']}  "
            f"lost {found['lost']}  "
            f"run again {found['interrupted_and_run_again']}  failover median {middle:.0f} ms, "
            f"max {found['failover_ms_max']:.0f} ms"
        )
    print(record.write("scheduler", results))


if __name__ == "__main__":
    main()
