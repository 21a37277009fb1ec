"""The chaos benchmark's harness: it keeps cycles going, kills, and waits for recovery."""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos_check import ASKED, Entry, Journal, champion_wrong, commands_kept, lost
from benchmarks.chaos_operator import Operator
from benchmarks.chaos_world import MODEL, Customers
from benchmarks.swap_serving import Serving
from perennial.continual.errors import PerennialError
from perennial.ops.ledger import Ledger
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.processes import group_members
from perennial.ops.serving.server.stubs import StubWatch, stubs_of
from perennial.ops.serving.server_record import FILE, KeptSecret
from perennial.ops.settings import load_settings
from perennial.ops.store.workspace import Workspace

__all__ = ["ALIVE", "Chaos", "Kill", "Point", "wait_until_right"]

ALIVE = ("control", "triton", "router", "engine")
_RECOVERY_S = 90.0
_COMMANDS_S = 30.0  # for what was acknowledged last to be carried out
_POLL_S = 0.004

Point = tuple[str, str, str]  # step, phase, process


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One kill, and what became of it within the limit; `wrong` says what was not as it should be.

    It counts once its `piece` has a verdict, so that what its piece lost is never left out.
    """

    piece: str
    commit: str
    step: str
    phase: str
    process: str
    recovered: bool
    seconds: float
    champion_is_ledgers: bool
    wrong: str


def wait_until_right(look: Callable[[], str], limit_s: float, pause_s: float = 0.03) -> tuple[float, str]:
    """Seconds until `look` finds nothing wrong, and what is wrong still when the limit is reached."""
    started = time.monotonic()
    while True:
        wrong = look()
        seconds = time.monotonic() - started
        if not wrong or seconds >= limit_s:
            return seconds, wrong
        time.sleep(pause_s)


class Chaos:
    """The harness: kills, waits for recovery, and looks whether everything is as the ledger says."""

    def __init__(self, config: Path, kept: Path, *, piece: str, commit: str) -> None:
        self.piece, self.commit = piece, commit
        self.unjudged = 0  # kills whose recovery was not awaited, because the harness was told to end
        self.settings = load_settings(config)
        self.workspace = Workspace(self.settings)
        self.ledger = Ledger.open(self.settings.ledger_address)
        self.serving = Serving(config)
        self.customers = Customers(f"127.0.0.1:{self.settings.triton.grpc_port}", self.serving.api, pause_s=0.04)
        self.operator = Operator(self.ledger, self.serving.api)
        self._journal = Journal(self.settings.state / "ledger.db")
        self._stubs = StubWatch(
            f"127.0.0.1:{self.settings.triton.grpc_port}", KeptSecret(self.settings.state / "triton" / FILE)
        )
        self._kept = kept
        self._chance = random.Random(0)
        self._client = PerennialClient(f"127.0.0.1:{self.settings.triton.grpc_port}", MODEL, timeout_s=3.0)

    def close(self) -> None:
        """End everything that was started."""
        self.customers.stop()
        try:
            self.serving.stop()
        finally:
            self.serving.end_triton()
            self._client.close()
            self._stubs.close()
            self.operator.close()
            self._journal.close()
            self.ledger.close()

    def at_every_step(self, wanted: Counter[Point], until: float) -> None:
        """Cycle after cycle, kill at the journal's entries until all wanted kills are done or the time is up.

        An intent stays a point until its outcome is written, so that several processes may be killed at one.
        """
        seen = self._journal.newest().number
        while +wanted and time.monotonic() < until:
            if (command := self.operator.act(wanted)) and self._at_command(command, wanted):
                seen = self._journal.newest().number
                continue
            entry = self._journal.newest()
            fresh, seen = entry.number > seen, max(seen, entry.number)
            process = self._choose(wanted, entry) if fresh or entry.phase == "intent" else None
            if process is None or not self._kill_at(process, entry):
                time.sleep(_POLL_S)
                continue
            wanted[(entry.step, entry.phase, process)] -= 1
            seen = self._journal.newest().number

    def at_moments(self, wanted: Counter[Point], until: float) -> None:
        """Kill right after a label was acknowledged, right after an answer came, and while a restart is under way."""
        for point in [point for point in wanted if point[0] in {"Answer", "Feedback", "Restart"}]:
            while wanted[point] > 0 and time.monotonic() < until:
                self._await_moment(point)
                if self._kill(point[2], point[0], point[1]):
                    wanted[point] -= 1

    def at_random(self, until: float) -> None:
        """Kill any of the processes at any moment, some seconds after the last one came back."""
        while time.monotonic() < until:
            pause = min(time.monotonic() + self._chance.expovariate(1 / 4.0), until)
            while time.monotonic() < pause:
                self.operator.act(Counter())
                time.sleep(0.1)
            self._kill(self._chance.choice((*ALIVE, "training")), "random", "random")

    def settle(self) -> str:
        """Wait, not for ever, for one more answer to the customers and for the end of each command; stop the customers.

        Returns:
            What is wrong with the customers: one ended before its time, or none is answered; empty when all is well.
        """
        begun = time.monotonic()

        def unanswered() -> str:
            self._launch_again()
            return "" if self.customers.ended() or self.customers.last_answer > begun else "no customer is answered"

        def undone() -> str:
            self._launch_again()
            return "; ".join(commands_kept(self.ledger, self.operator.promised)["commands_lost_why"])

        _, silent = wait_until_right(unanswered, _RECOVERY_S)
        early = self.customers.ended()
        self.customers.stop()
        wait_until_right(undone, _COMMANDS_S, pause_s=0.5)
        return "; ".join([*(f"the customer {name} ended early" for name in early), *([silent] if silent else [])])

    def lost(self) -> dict[str, Any]:
        """What was promised to the customers and the operator, and what of it is not there."""
        losses = lost(self.ledger, self.workspace, list(self.customers.answered), self.customers.acknowledged)
        commands = commands_kept(self.ledger, self.operator.promised)
        return {**losses, **commands, "failed_requests": self.customers.failed}

    def _await_moment(self, point: Point) -> None:
        answered, labelled = len(self.customers.answered), len(self.customers.acknowledged)
        end = time.monotonic() + 5.0
        if point[0] == "Restart":
            if (victims := self._victims(point[2])) and self._end(point[2], victims):
                self._await_restart(point[2], victims[0])
            return
        while time.monotonic() < end:
            count = len(self.customers.answered) if point[0] == "Answer" else len(self.customers.acknowledged)
            if count > (answered if point[0] == "Answer" else labelled):
                return
            time.sleep(0.0005)

    def _await_restart(self, process: str, dead: int) -> None:
        """Return some moment after the killed process was started again, mostly before it is ready."""
        end = time.monotonic() + 10.0
        while time.monotonic() < end and self._victims(process) in ([], [dead]):
            time.sleep(0.005)
        time.sleep(self._chance.uniform(0.0, 1.2))

    def _at_command(self, command: str, wanted: Counter[Point]) -> bool:
        """Kill right after an operator's command was acknowledged, where that is wanted; whether it was done."""
        here = [point for point, left in wanted.items() if left > 0 and point[:2] == (command, "acknowledged")]
        if not here or not self._kill(here[0][2], *here[0][:2]):
            return False
        wanted[here[0]] -= 1
        return True

    def _choose(self, wanted: Counter[Point], entry: Entry) -> str | None:
        """Whom to kill here: who has most kills to come."""
        here = [p[2] for p, left in wanted.items() if left > 0 and p[:2] == (entry.step, entry.phase)]
        return max(here, key=lambda process: wanted[(entry.step, entry.phase, process)], default=None)

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

    def _kill_at(self, process: str, entry: Entry) -> bool:
        """Kill at an entry: right after an outcome, and before an intent's outcome is written."""
        end = time.monotonic() + (3.0 if process == "training" else 0.0)
        while not self._victims(process) and time.monotonic() < end and self._journal.newest() == entry:
            time.sleep(_POLL_S)  # the job's process is being started
        if entry.phase == "intent" and self._journal.newest() != entry:
            return False
        return self._kill(process, entry.step, entry.phase)

    def _end(self, process: str, victims: list[int]) -> bool:
        try:
            os.kill(self._chance.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            return False
        if process == "control" and self.serving.process is not None:
            self.serving.process.wait()
            self.serving.launch()
        return True

    def _kill(self, process: str, step: str, phase: str) -> bool:
        jobs = set(_jobs_of(self._control)) if process == "training" else set()
        before, triton = self._journal.newest().number, self.serving.triton_pid
        victims = self._victims(process)
        started = time.monotonic()
        if not victims or not self._end(process, victims):
            return False

        def look() -> str:
            self._launch_again()
            if (
                process == "training"
                and self._journal.newest().number == before
                and set(_jobs_of(self._control)) <= jobs
            ):
                return "the job was not begun again, and the cycle did not go on"
            if triton == self.serving.triton_pid and self._short(process, triton):
                return "Triton was not replaced"  # one whose idle engine died still answers
            return self._wrong()

        point = (step, phase, process)
        try:
            _, wrong = wait_until_right(look, _RECOVERY_S)
            right = not wrong or not champion_wrong(self.ledger, self.workspace, self._ask)
        except Exception as exc:
            self._note(point, started, f"{type(exc).__name__}: {exc}"[:300], champion_is_ledgers=False)
            raise
        except BaseException:
            self.unjudged += 1
            raise
        self._note(point, started, wrong, champion_is_ledgers=right)
        return True

    def _note(self, point: Point, started: float, wrong: str, *, champion_is_ledgers: bool) -> None:
        step, phase, process = point
        kill = Kill(
            piece=self.piece,
            commit=self.commit,
            step=step,
            phase=phase,
            process=process,
            recovered=not wrong,
            seconds=time.monotonic() - started,
            champion_is_ledgers=champion_is_ledgers,
            wrong=wrong,
        )
        with self._kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(kill)) + "\n")
        print(f"{step:18} {phase:12} {process:9} {kill.seconds:6.2f} s {wrong}", file=sys.stderr, flush=True)

    def _launch_again(self) -> None:
        if self.serving.process is not None and self.serving.process.poll() is not None:
            self.serving.launch()  # it gave up by itself: a service manager starts it again

    @property
    def _control(self) -> int:
        return 0 if self.serving.process is None else self.serving.process.pid

    def _short(self, process: str, triton: int) -> bool:
        """Whether what was killed is missed; a stub whose version was being unloaded is not, and Triton stays."""
        if process == "triton":
            return True
        try:
            return process in ALIVE[2:] and self._stubs.missing(triton) != ()
        except PerennialError:
            return True

    def _wrong(self) -> str:
        """What is not as it should be now; empty when all is well."""
        if not self.serving.healthy():
            return "control process is not healthy"
        return champion_wrong(self.ledger, self.workspace, self._ask)

    def _ask(self) -> list[int]:
        answers = self._client.predict(["my card is lost"] * ASKED, keys=[f"k{n}" for n in range(ASKED)])
        return [answer.version for answer in answers]


def _jobs_of(control: int) -> list[int]:
    """The job processes that the control process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes() if parent == control else b""
        except (OSError, ValueError, IndexError):
            continue
        if b"perennial.continual.jobs.child" in words:
            found.append(int(entry.name))
    return found
