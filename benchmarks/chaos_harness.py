"""The chaos benchmark's harness: it kills, waits for recovery, and looks whether all is as the ledger says."""

import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.chaos_world import MODEL, Customers
from benchmarks.swap_serving import Serving
from continual.errors import PerennialError
from ops.ledger import Ledger, VersionState
from ops.settings import load_settings
from ops.traffic import TrafficLog
from ops.triton.client import PerennialClient
from ops.triton.processes import group_members
from ops.triton.stubs import stubs_of
from ops.workspace import Workspace

__all__ = ["ALIVE", "Chaos", "Journal", "Kill", "Point"]

ALIVE = ("control", "triton", "router", "engine")
_RECOVERY_S = 90.0

Point = tuple[str, str, str]  # step, phase, process


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One kill, and what became of it within the limit; `wrong` says what was not as it should be."""

    step: str
    phase: str
    process: str
    recovered: bool
    seconds: float
    champion_is_ledgers: bool
    wrong: str


class Journal:
    """The ledger's journal as it grows, read without disturbing it."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
        self.seen = 0
        self.skip()

    def skip(self) -> None:
        """Go to the end."""
        self.seen = int(self._database.execute("SELECT coalesce(max(id), 0) FROM journal_entry").fetchone()[0])

    def next(self) -> tuple[str, str] | None:
        """The newest entry that was not seen yet: step and phase."""
        found = self._database.execute(
            "SELECT id, step, phase FROM journal_entry WHERE id > ? ORDER BY id DESC LIMIT 1", (self.seen,)
        ).fetchone()
        if found is None:
            return None
        self.seen = int(found[0])
        return str(found[1]), str(found[2])


class Chaos:
    """The harness: kills, waits for recovery, and looks whether everything is as the ledger says."""

    def __init__(self, config: Path, kept: Path) -> None:
        self.settings = load_settings(config)
        self.workspace = Workspace(self.settings)
        self.ledger = Ledger.open(self.settings.ledger_address)
        self.serving = Serving(config)
        self.grpc = f"127.0.0.1:{self.settings.triton.grpc_port}"
        self.customers = Customers(self.grpc, self.serving.api, pause_s=0.04)
        self.kills: list[Kill] = []
        self._kept = kept
        self._chance = random.Random(0)
        self._http = httpx.Client(timeout=10)
        self._look_again = 0.0

    def close(self) -> None:
        """End everything that was started."""
        self.customers.stop()
        try:
            self.serving.stop()
        finally:
            self.serving.end_triton()
            self._http.close()
            self.ledger.close()

    def at_every_step(self, wanted: Counter[Point], until: float) -> None:
        """Cycle after cycle, kill at the journal's entries until all wanted kills are done or the time is up."""
        journal = Journal(self.settings.state / "ledger.db")
        while +wanted and time.monotonic() < until:
            self._keep_cycling()
            entry = journal.next()
            if entry is None:
                time.sleep(0.004)
                continue
            if (process := self._choose(wanted, *entry)) is None:
                continue
            if self._kill(process, *entry):
                wanted[(*entry, process)] -= 1
                journal.skip()

    def at_random(self, until: float) -> None:
        """Kill any of the processes at any moment, some seconds after the last one came back."""
        while time.monotonic() < until:
            pause = time.monotonic() + self._chance.expovariate(1 / 4.0)
            while time.monotonic() < min(pause, until):
                self._keep_cycling()
                time.sleep(0.1)
            self._kill(self._chance.choice((*ALIVE, "training")), "random", "random")

    def _choose(self, wanted: Counter[Point], step: str, phase: str) -> str | None:
        """Whom to kill here. A killed job ends its cycle, so jobs come last."""
        here = [point[2] for point, left in wanted.items() if left > 0 and point[:2] == (step, phase)]
        others = [point for point, left in wanted.items() if left > 0 and point[2] != "training"]
        later = [point for point in others if point[0] != "AbortChallenger"]
        if "training" in here:
            here.remove("training")
            if not here and not later:
                return "training"
        return max(here, key=lambda process: wanted[(step, phase, process)]) if here else None

    def _keep_cycling(self) -> None:
        if time.monotonic() < self._look_again:
            return
        self._look_again = time.monotonic() + 0.5
        if self.ledger.active_cycle(MODEL) is None and self.serving.process is not None:
            try:
                self._http.post(f"{self.serving.api}/v1/models/{MODEL}/retrain")
            except httpx.HTTPError:
                return

    def _victims(self, process: str) -> list[int]:
        control = 0 if self.serving.process is None else self.serving.process.pid
        if process == "control":
            return [control] if control else []
        if process == "training":
            return _jobs_of(control)
        if not (triton := self.serving.triton_pid):
            return []
        if process == "triton":
            return [triton] if group_members(triton) else []
        model = MODEL if process == "router" else self.workspace.engine_model(MODEL)
        return [pid for pid, name in stubs_of(triton).items() if name.rsplit("_", 2)[0] == model]

    def _kill(self, process: str, step: str, phase: str) -> bool:
        end = time.monotonic() + (3.0 if process == "training" and step != "random" else 0.0)
        while not (victims := self._victims(process)) and time.monotonic() < end:
            time.sleep(0.01)  # the job's process is being started
        if not victims:
            return False
        started, triton = time.monotonic(), self.serving.triton_pid
        try:
            os.kill(self._chance.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            return False
        if process == "control" and self.serving.process is not None:
            self.serving.process.wait()
            self.serving.launch()
        seconds, wrong = self._recover(started, 0 if process in {"control", "training"} else triton)
        kill = Kill(
            step=step,
            phase=phase,
            process=process,
            recovered=not wrong,
            seconds=seconds,
            champion_is_ledgers=not wrong or "champion" not in wrong,
            wrong=wrong,
        )
        self.kills.append(kill)
        with self._kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(kill)) + "\n")
        print(f"{step:18} {phase:8} {process:9} {seconds:6.2f} s {wrong}", file=sys.stderr, flush=True)
        return True

    def _recover(self, started: float, broken: int) -> tuple[float, str]:
        """Seconds until everything is as the ledger says, and what is not when the limit is reached.

        `broken` is the Triton that must have been replaced by then: one whose idle engine died still answers.
        """
        wrong = "not looked at"
        while time.monotonic() - started < _RECOVERY_S:
            if self.serving.process is not None and self.serving.process.poll() is not None:
                self.serving.launch()  # it gave up by itself: a service manager starts it again
            wrong = "Triton was not replaced" if broken == self.serving.triton_pid != 0 else self._wrong()
            if not wrong:
                return time.monotonic() - started, ""
            time.sleep(0.03)
        return time.monotonic() - started, wrong

    def _wrong(self) -> str:
        """What is not as it should be now; empty when all is well."""
        if not self.serving.healthy():
            return "control process is not healthy"
        route = self.ledger.route(MODEL)
        if route is None or self.workspace.read_route(MODEL) != route:
            return "the route file differs from the ledger: champion unknown"
        held = [row.version for row in self.ledger.versions(MODEL) if row.state is VersionState.CHAMPION]
        if held != [route.champion]:
            return f"versions {held} are marked champion, the route says {route.champion}"
        try:
            with PerennialClient(self.grpc, MODEL, timeout_s=3.0) as client:
                answers = {client.predict(["my card is lost"], keys=[f"k{n}"])[0].version for n in range(3)}
        except PerennialError as exc:
            return f"no answer: {str(exc)[:150]}"
        allowed = {route.champion, route.challenger if route.share else None}
        if not answers <= allowed and self.ledger.route(MODEL) == route:
            return f"champion {route.champion} is the ledger's, answers came from {sorted(answers)}"
        return ""

    def lost(self) -> dict[str, Any]:
        """What was promised to the customers and is not there."""
        ids = list(self.customers.answered)
        logged: set[str] = set()
        log = TrafficLog(self.workspace.traffic(MODEL))
        for part in _parts(ids, 5_000):
            logged.update(log.lookup(part, columns=["prediction_id"])["prediction_id"].to_pylist())
        labels = self.ledger.feedback_labels(MODEL, list(self.customers.acknowledged))
        missing = [key for key, label in self.customers.acknowledged.items() if labels.get(key) != label]
        return {
            "predictions": len(ids),
            "predictions_lost": len(set(ids) - logged),
            "feedback": len(self.customers.acknowledged),
            "feedback_lost": len(missing),
            "failed_requests": self.customers.failed,
        }


def _parts(ids: list[str], size: int) -> list[list[str]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _jobs_of(control: int) -> list[int]:
    """The job processes that the control process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            continue
        if parent == control and b"ops.loop.child" in words:
            found.append(int(entry.name))
    return found
