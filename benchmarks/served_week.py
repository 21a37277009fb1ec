"""A week of a quiet service through a real `perennial serve`, whose wall clock runs faster; how many retrainings?

    python -m benchmarks.served_week --data DIR [--speed 600] [--days 7] [--seed 0] --out OUT

The traffic is that of the part `week` of `benchmarks.drift`: cycles of day and night, retries, a control process that
is killed and away for eight hours, five hours without requests, and a real change at noon of the fifth day. Each
request goes over gRPC to the router on a real Triton; labels go to the control API an hour later. `serve`, Triton,
its backends, the trainings and exports read a wall clock that runs `speed` times as fast (`served_week_clock.c`, which
needs a C compiler and Linux). What measures a duration is not sped up: a training of ten seconds takes 100 minutes of
such a week at 600. The timers' intervals are as much longer.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks import record
from benchmarks.drift_week import CHANGE_DAY, DAYS, LABELLED, SILENT, UNWATCHED, asked_in_hour, sent_in_hour
from benchmarks.labelled_sets import SETS, steps_of
from benchmarks.settings_file import write_settings
from perennial.client import Client, Places
from perennial.client.errors import ClientError
from perennial.continual.errors import DependencyUnreachable
from perennial.continual.records import Example
from perennial.ops.commands.first_version import first_version, register
from perennial.ops.demo.served import ServedLoop
from perennial.ops.ledger import Ledger
from perennial.ops.settings import load_settings

__all__ = ["main"]

_MODEL = "banking"
_KNOWN, _FIT_ROWS = 40, 2_000
_CLIENTS = 8
_STARTS_NS = 60 * 10**9  # what the first start may take before the clock runs faster
_LATE = timedelta(hours=1)
_EVERY = timedelta(minutes=10)  # the timers that are seconds apart by default
_TOML = """
state = "state"
repository = "repository"

[triton]
grpc_port = {grpc}
http_port = {http}
metrics_port = {metrics}
engine_threads = 1

[api]
port = {api}

[schedule]
watch_share = 1.0  # a week takes minutes here, so that its share of that would be too little
watch_s = {every}
retrain_check_s = {every}
reconcile_s = {every}
report_s = {every}
notify_s = {every}
events_s = 3600.0
compact_s = 7200.0

[models.{model}.learning]
niceness = 0  # training is to take no longer than it must, because its time counts 600 times
"""


class _Week:
    """The service, what is asked of it, and what came back."""

    def __init__(self, folder: Path, data: Path, *, speed: int, seed: int) -> None:
        self._speed, self._rng, self._labeller = speed, np.random.default_rng([37, seed]), random.Random(seed)
        rows = [row for part in steps_of(data, SETS[data.name])[0] for row in part]
        texts, labels = np.array([row.text for row in rows], dtype=object), np.array([row.label for row in rows])
        order = np.random.default_rng(5)
        known = np.isin(labels, order.permutation(np.unique(labels))[:_KNOWN])
        shuffled = order.permutation(np.flatnonzero(known))
        fit, asked = shuffled[:_FIT_ROWS], np.concatenate([shuffled[_FIT_ROWS:], np.flatnonzero(~known)])
        self._clean = len(shuffled) - _FIT_ROWS
        self._texts, self._truth = texts[asked], labels[asked]
        config = write_settings(folder, _TOML, model=_MODEL, every=_EVERY.total_seconds())
        self._loop = ServedLoop(folder, load_settings(config), _MODEL, lambda _name, _facts: None)
        now = datetime.now(UTC)
        with Ledger.open(self._loop.workspace.settings.ledger_address) as ledger:
            register(ledger, self._loop.workspace)
            first_version(
                ledger, self._loop.workspace, _MODEL, [Example(text=texts[n], label=labels[n], at=now) for n in fit]
            )
        self._lock = threading.Lock()
        self._waiting: list[tuple[datetime, str, str]] = []
        self.labelled = self.failed = 0
        self.late_h = 0.0  # the latest answer, behind the moment that its request was meant for
        self.right: dict[int, list[bool]] = {}
        self._begun_ns = 0

    @property
    def began(self) -> datetime:
        """The first moment of the week."""
        return datetime.fromtimestamp(self._begun_ns / 1e9, UTC)

    def hour(self) -> float:
        """Hours of the week so far, by the fast clock."""
        return (time.time_ns() - self._begun_ns) * self._speed / 3_600e9

    def run(self, hours: int, clock: Path) -> None:
        """Serve and ask for so many hours."""
        self._begun_ns = time.time_ns() + _STARTS_NS
        self._start(clock)
        time.sleep(max(0.0, -self.hour()) * 3_600 / self._speed)
        over = threading.Event()
        labeller = threading.Thread(target=self._give, args=(over,))
        labeller.start()
        places = Places(grpc=self._loop.grpc, api=self._loop.api, timeout_s=60.0)
        try:
            with Client(_MODEL, places) as client, ThreadPoolExecutor(_CLIENTS) as pool:
                for number in range(hours):
                    if number == UNWATCHED[0]:
                        self._kill()
                    if number == UNWATCHED[1]:
                        starting = threading.Thread(target=self._start_again, args=(clock, over))
                        starting.start()
                    requests = sent_in_hour(asked_in_hour(number, self._truth, self._clean, self._rng), self._rng)
                    for offset, place, caller in requests if not SILENT[0] <= number < SILENT[1] else []:
                        time.sleep(max(0.0, number + offset / 3_600 - self.hour()) * 3_600 / self._speed)
                        pool.submit(self._ask, client, place, caller, number + offset / 3_600)
                    time.sleep(max(0.0, number + 1 - self.hour()) * 3_600 / self._speed)
                    if number % 6 == 5:
                        print(f"hour {number + 1}: {self.told()}", flush=True)
        finally:
            over.set()
            labeller.join()
            self._loop.stop()

    def told(self) -> dict[str, Any]:
        """What the ledger says of it so far."""
        with Ledger.open(self._loop.workspace.settings.ledger_address) as ledger:
            cycles = list(reversed(ledger.cycles(_MODEL)))
            reports = ledger.drift_reports(_MODEL)
        days = [round((each.opened_at - self.began) / timedelta(days=1), 2) for each in cycles]
        return {
            "requests": sum(map(len, self.right.values())),
            "failed": self.failed,
            "latest_answer_h": round(self.late_h, 2),
            "labels": self.labelled,
            "right_by_day": {day: round(sum(answers) / len(answers), 3) for day, answers in self.right.items()},
            "windows": len(reports),
            "alerts": sum(bool(row.payload["signal"]["alert"]) for row in reports),
            "retrainings": len(cycles),
            "before_the_change": sum(day < CHANGE_DAY for day in days),
            "days": days,
            "why": [each.reason for each in cycles],
            "ended": [each.outcome or each.state for each in cycles],
            "champion": self._loop.champion(),
        }

    def _start(self, clock: Path) -> None:
        """Start `serve` by the fast clock."""
        fast = {"LD_PRELOAD": str(clock), "PERENNIAL_CLOCK": f"{self._begun_ns} {self._speed}"}
        os.environ.update(fast)  # of what is started from here on
        try:
            self._loop.start()
        finally:
            for name in fast:
                del os.environ[name]

    def _start_again(self, clock: Path, over: threading.Event) -> None:
        """Start it and stay: a `serve` ends with the thread that started it."""
        self._start(clock)
        over.wait()

    def _kill(self) -> None:
        """The control process alone; what it had started answers on."""
        serve = self._loop._serve
        if serve is not None:
            serve.send_signal(signal.SIGKILL)
            serve.wait()

    def _ask(self, client: Client, place: int, caller: int, due_h: float) -> None:
        try:
            answer = client.predict(str(self._texts[place]), key=f"person {caller}")
        except ClientError as error:
            print(f"failed: {error}", file=sys.stderr)
            self.failed += 1
            return
        truth, hour = str(self._truth[place]), self.hour()
        with self._lock:
            self.late_h = max(self.late_h, hour - due_h)
            self.right.setdefault(int(hour // 24), []).append(answer.label == truth)
            if self._labeller.random() < LABELLED:
                due = self.began + timedelta(hours=hour) + _LATE
                self._waiting.append((due, answer.prediction_id, truth))

    def _give(self, over: threading.Event) -> None:
        """Give the labels that are due; while nobody takes them they wait."""
        while not over.wait(0.5):
            now = self.began + timedelta(hours=self.hour())
            with self._lock:
                due = [row for row in self._waiting if row[0] <= now]
            if not due:
                continue
            labels = [{"prediction_id": name, "label": label, "at": at.isoformat()} for at, name, label in due]
            try:
                self._loop.http.post("/v1/feedback", json={"model": _MODEL, "labels": labels}).raise_for_status()
            except httpx.HTTPError as error:
                print(f"labels wait: {type(error).__name__}", file=sys.stderr)
                continue
            self.labelled += len(due)
            with self._lock:
                self._waiting = [row for row in self._waiting if row[0] > now]


def _compiled(folder: Path) -> Path:
    """The clock as a library.

    Raises:
        DependencyUnreachable: no compiler can make it.
    """
    source, made = Path(__file__).with_name("served_week_clock.c"), folder / "clock.so"
    try:
        subprocess.run(["cc", "-O2", "-fPIC", "-shared", "-o", made, source, "-ldl"], check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise DependencyUnreachable(f"{source.name} cannot be compiled ({error}); install a C compiler") from error
    return made


def main() -> None:
    """Run the week, print and keep what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder `banking77` with its train.csv and test.csv")
    parser.add_argument("--speed", type=int, default=600, help="seconds of the week in a second")
    parser.add_argument("--days", type=float, default=DAYS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="week-") as folder:
        week = _Week(Path(folder) / "work", chosen.data, speed=chosen.speed, seed=chosen.seed)
        try:
            week.run(int(24 * chosen.days), _compiled(Path(folder)))
        finally:
            results = {"speed": chosen.speed, "days": chosen.days, "seed": chosen.seed, **week.told()}
            log = week._loop.log.read_text(encoding="utf-8").splitlines()
            print("\n".join(log[-20:]), file=sys.stderr)
    print(results)
    print(record.write("served_week", results, chosen.out))


if __name__ == "__main__":
    main()
