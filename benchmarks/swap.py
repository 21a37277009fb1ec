"""Promotions and rollbacks under load: does any request fail, or get the wrong version, and what does it cost?

    python -m benchmarks.swap [--swaps 200] [--requests 100000]

`perennial serve` runs in a process of its own with two trained MiniLM versions of different label sets; clients ask it
in closed loops, over gRPC and HTTP, from another process. Commands go to the control API, as an operator's would.
Around each command lies a window "swap", between two commands a window "steady": the two are interleaved all through.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from benchmarks import record
from benchmarks.swap_load import Answers, LoadSpec, read_answers
from benchmarks.swap_serving import Serving
from benchmarks.swap_world import MODEL, Table, make_workspace, publish_copy, spoken_table
from ops.settings import load_settings
from ops.triton.processes import group_members
from ops.workspace import Workspace

__all__ = ["Flip", "Run", "judge", "main", "measure"]

_BEFORE_S, _AFTER_S = 0.05, 0.35  # the window of a swap, around its command
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """One command: when it was sent and answered (monotonic seconds), and the champion from then on."""

    started: float
    ended: float
    version: int
    rollback: bool
    loads: bool = False  # the version had to be loaded first


@dataclass(slots=True, kw_only=True)
class Run:
    """What the harness saw: commands, and resident memory in MB by part after each of them."""

    first: int
    flips: list[Flip] = field(default_factory=list)
    memory: list[dict[str, float]] = field(default_factory=list)
    restarts: int = 0


class Load:
    """The clients' process."""

    def __init__(self, folder: Path, spec: LoadSpec) -> None:
        self._out = Path(spec.out)
        path = folder / "load.json"
        path.write_text(json.dumps(asdict(spec)), encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.swap_load", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
        )
        self._line()

    def asked(self) -> int:
        """Answers so far."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return int(self._line())

    def stop(self) -> Answers:
        """End the clients and return what they got."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait(timeout=120) != 0:
            raise RuntimeError(f"the load process ended with {self._process.returncode}")
        return read_answers(self._out)

    def kill(self) -> None:
        """End it whatever it does."""
        self._process.kill()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        if not line:
            raise RuntimeError("the load process ended before its time")
        return line


def measure(serving: Serving, load: Load, run: Run, *, swaps: int, requests: int, every_s: float, loads: int) -> None:
    """Promote and roll back `swaps` times each; then `loads` times a version that has to be loaded first."""
    with httpx.Client(base_url=f"{serving.api}/v1/models/{MODEL}", timeout=60) as api:
        begun = time.monotonic()
        for number in range(2 * swaps):
            _sleep_until(begun + (number + 1) * every_s)
            _flip(api, run, 2 if number % 2 == 0 else None)
            run.memory.append(serving.memory_mb())
        while load.asked() < requests:
            time.sleep(0.5)
        for number in range(loads):
            _flip(api, run, 3 + number, loads=True)
            time.sleep(2.0)
    run.restarts = int(httpx.get(f"{serving.api}/healthz", timeout=10).json()["triton"]["restarts"])


def _flip(api: httpx.Client, run: Run, promote: int | None, *, loads: bool = False) -> None:
    body = {"reason": "benchmark"} | ({} if promote is None else {"version": promote})
    started = time.monotonic()
    answer = api.post("rollback" if promote is None else "promote", json=body)
    ended = time.monotonic()
    answer.raise_for_status()
    version = int(answer.json()["champion"])
    run.flips.append(Flip(started=started, ended=ended, version=version, rollback=promote is None, loads=loads))


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def judge(answers: Answers, run: Run, table: Table) -> dict[str, Any]:
    """The figures of the issue, out of what the clients and the harness saw."""
    ok = answers.version > 0
    latency_ms = 1e3 * (answers.received - answers.sent)
    quick = [flip for flip in run.flips if not flip.loads]
    slow = [flip for flip in run.flips if flip.loads]
    end = min([flip.started for flip in slow] or [np.inf])
    distance = _after_last(answers.received, np.asarray([flip.started for flip in run.flips]))
    to_next = _before_next(answers.sent, np.asarray([flip.started for flip in run.flips]))
    near = (distance < _AFTER_S) | (to_next < _BEFORE_S)
    first = quick[0].started - 5.0 if quick else 0.0
    calm = ok & (answers.sent > first) & (answers.sent < end)
    loading = np.zeros(len(ok), dtype=bool)
    for flip in slow:
        loading |= (answers.received > flip.started) & (answers.sent < flip.ended + 1.5)
    rollbacks = [_first_answer_ms(answers, flip) for flip in quick if flip.rollback]
    promotions = [_first_answer_ms(answers, flip) for flip in quick if not flip.rollback]
    steady, swap = _p(latency_ms[calm & ~near], 99), _p(latency_ms[calm & near], 99)
    return {
        "requests": len(ok),
        "requests_grpc": int(answers.grpc.sum()),
        "requests_http": int((~answers.grpc).sum()),
        "promotions": sum(not flip.rollback for flip in quick),
        "rollbacks": sum(flip.rollback for flip in quick),
        "failed": int((~ok).sum()),
        "failures": answers.errors,
        "wrong_version": _wrong_versions(answers, run),
        "wrong_label": _wrong_labels(answers, table),
        "p50_ms_steady": _p(latency_ms[calm & ~near], 50),
        "p50_ms_swap": _p(latency_ms[calm & near], 50),
        "p99_ms_steady": steady,
        "p99_ms_swap": swap,
        "p99_swap_over_steady": swap / steady if steady else float("nan"),
        "requests_in_swap_windows": int((calm & near).sum()),
        "rollback_ms_p50": _p(rollbacks, 50),
        "rollback_ms_p99": _p(rollbacks, 99),
        "rollback_ms_max": max(rollbacks, default=float("nan")),
        "promote_ms_p50": _p(promotions, 50),
        "promote_ms_max": max(promotions, default=float("nan")),
        "command_ms_p50": _p([1e3 * (flip.ended - flip.started) for flip in quick], 50),
        "requests_per_s": len(ok) / max(1e-9, float(answers.received[-1] - answers.sent[0])),
        "load_swaps": len(slow),
        "load_swap_s_p50": _p([flip.ended - flip.started for flip in slow], 50),
        "p99_ms_load_swap": _p(latency_ms[ok & loading], 99),
        "triton_restarts": run.restarts,
        **_memory(run),
    }


def _after_last(times: npt.NDArray[np.float64], events: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Seconds since the last event before each time; infinite before the first one."""
    padded = np.concatenate([[-np.inf], events])
    since: npt.NDArray[np.float64] = times - padded[np.searchsorted(events, times, side="right")]
    return since


def _before_next(times: npt.NDArray[np.float64], events: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    padded = np.concatenate([events, [np.inf]])
    left: npt.NDArray[np.float64] = padded[np.searchsorted(events, times, side="right")] - times
    return left


def _wrong_versions(answers: Answers, run: Run) -> int:
    """Answers of a version that was champion neither when they were asked for nor when they came.

    While a command is under way, the champion is the old one or the new one.
    """
    ok = answers.version > 0
    right = np.zeros(len(ok), dtype=bool)
    for times in (answers.sent, answers.received):
        for edges in ([flip.started for flip in run.flips], [flip.ended for flip in run.flips]):
            champions = np.asarray([run.first, *(flip.version for flip in run.flips)])
            right |= champions[np.searchsorted(np.asarray(edges), times, side="right")] == answers.version
    return int((ok & ~right).sum())


def _wrong_labels(answers: Answers, table: Table) -> int:
    """Answers whose label is not what their version says to their text."""
    wrong = 0
    for version in np.unique(answers.version[answers.version > 0]):
        known = table.says.get(int(version))
        rows = answers.version == version
        said = answers.label[rows]
        wrong += int(rows.sum()) if known is None else int((np.asarray(known)[answers.text[rows]] != said).sum())
    return wrong


def _first_answer_ms(answers: Answers, flip: Flip) -> float:
    """From the command to the first answer of the version that it made champion."""
    start = int(np.searchsorted(answers.received, flip.started, side="right"))
    later = np.flatnonzero(answers.version[start:] == flip.version)
    return 1e3 * float(answers.received[start + later[0]] - flip.started) if len(later) else float("inf")


def _memory(run: Run) -> dict[str, Any]:
    """Slopes in MB per 100 swaps by least squares, the first quarter left out as warm-up."""
    kept = run.memory[len(run.memory) // 4 :]
    if len(kept) < 3:
        return {"rss_slope_mb_per_100_swaps": float("nan")}
    swaps = np.arange(len(kept), dtype=np.float64)
    slopes = {part: 100 * float(np.polyfit(swaps, [sample[part] for sample in kept], 1)[0]) for part in kept[0]}
    return {
        "rss_slope_mb_per_100_swaps": slopes["total"],
        "rss_slope_by_part": slopes,
        "rss_mb_after_warm_up": kept[0]["total"],
        "rss_mb_at_end": kept[-1]["total"],
    }


def _p(values: Any, q: float) -> float:
    """A percentile by rank, rounded up: it is one of the values, infinite ones included."""
    ranked = np.sort(np.asarray(values, dtype=np.float64))
    return float(ranked[math.ceil(q / 100 * (len(ranked) - 1))]) if len(ranked) else float("nan")


def _orphans(folder: Path, group: int) -> list[str]:
    """Processes that still belong to the workspace or to Triton's group."""
    marker, found, members = str(folder.resolve()).encode(), [], group_members(group)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in {os.getpid(), os.getppid()}:
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marker in words or int(entry.name) in members:
                found.append(words.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found


def main() -> None:
    """Run it and write `benchmarks/out/swap.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=200, help="promotions, and as many rollbacks")
    parser.add_argument("--requests", type=int, default=100_000, help="at least so many")
    parser.add_argument("--every", type=float, default=0.8, help="seconds between two commands")
    parser.add_argument("--loads", type=int, default=8, help="promotions of versions that must be loaded first")
    parser.add_argument("--clients", type=int, default=2, help="of each protocol")
    parser.add_argument("--think-ms", type=float, default=4.0, help="a client's mean pause, so that two cores suffice")
    parser.add_argument("--rows", type=int, default=900, help="training rows of the first version")
    parser.add_argument("--folder", type=Path, default=record.OUT / "swap", help="workspace; its versions are kept")
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    print("two versions", file=sys.stderr)
    config = make_workspace(folder, rows=chosen.rows)
    workspace = Workspace(load_settings(config))
    for number in range(chosen.loads):
        publish_copy(workspace, 1 + number % 2, 3 + number)
    table = spoken_table(workspace, (1, 2), texts=600)
    for number in range(chosen.loads):
        table.says[3 + number] = table.says[1 + number % 2]
    serving = Serving(config)
    load: Load | None = None
    try:
        serving.start()
        _begin_with_version_one(serving)
        spec = LoadSpec(
            model=MODEL,
            grpc=f"127.0.0.1:{serving.settings.triton.grpc_port}",
            http=f"127.0.0.1:{serving.settings.triton.http_port}",
            texts=table.texts,
            labels=table.labels,
            grpc_clients=chosen.clients,
            http_clients=chosen.clients,
            think_ms=chosen.think_ms,
            out=str(folder / "answers.npz"),
        )
        load = Load(folder, spec)
        time.sleep(5.0)  # caches warm, connections settle
        run = Run(first=1)
        print("swapping", file=sys.stderr)
        measure(
            serving,
            load,
            run,
            swaps=chosen.swaps,
            requests=chosen.requests,
            every_s=chosen.every,
            loads=chosen.loads,
        )
        answers = load.stop()
        group = serving.triton_pid
        serving.stop()
        time.sleep(1.0)
        orphans = _orphans(folder, group)
    finally:
        if load is not None:
            load.kill()
        serving.stop()
    results = judge(answers, run, table) | {
        "orphan_processes": len(orphans),
        "orphans": orphans,
        "texts": len(table.texts),
        "texts_told_apart": sum(a != b for a, b in zip(table.says[1], table.says[2], strict=True)),
        "clients": {"grpc": chosen.clients, "http": chosen.clients, "think_ms": chosen.think_ms},
        "commands": "control API, POST /v1/models/intent/promote and /rollback",
        "windows_s": {"before": _BEFORE_S, "after": _AFTER_S, "every": chosen.every},
        "load_average": os.getloadavg(),
    }
    for name, value in results.items():
        print(f"{name:32} {value if not isinstance(value, float) else round(value, 3)}")
    print(record.write("swap", results))


def _begin_with_version_one(serving: Serving) -> None:
    """Both versions resident and 1 the champion, whatever an earlier run left."""
    with httpx.Client(base_url=f"{serving.api}/v1/models/{MODEL}", timeout=120) as api:
        for version in (2, 1):
            api.post("promote", json={"version": version, "reason": "benchmark"}).raise_for_status()


if __name__ == "__main__":
    main()
