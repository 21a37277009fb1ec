"""Promotions and rollbacks under load: does any request fail, or get the wrong version, and what does it cost?

    python -m benchmarks.swap [--task text_classification] [--swaps 200] [--requests 100000]

`perennial serve` runs in a process of its own with two trained MiniLM versions of different label sets, or two
rankings of one catalogue; clients ask it in closed loops, over gRPC and HTTP, from another process. Commands go to the
control API, as an operator's would.
Around each command lies a window "swap", between two commands a window "steady": the two are interleaved all through.
"""

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import httpx

from benchmarks import record
from benchmarks.swap_load import Answers, LoadSpec, read_answers
from benchmarks.swap_ranking import RANKING_WORLD
from benchmarks.swap_serving import Serving
from benchmarks.swap_verdict import AFTER_S, BEFORE_S, Flip, Run, judge
from benchmarks.swap_world import TEXT_WORLD, publish_copy
from perennial.ops.serving.processes import group_members
from perennial.ops.settings import load_settings
from perennial.ops.store.workspace import Workspace

__all__ = ["Load", "RouteEye", "main", "measure"]

_ROOT = Path(__file__).parents[1]
_CALM_S = 2.0  # between two notes of memory where nothing is swapped
_WORLDS = {"text_classification": TEXT_WORLD, "ranking": RANKING_WORLD}


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

    def requests(self) -> int:
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


class RouteEye:
    """Notes when the router's file was replaced, without asking the control process."""

    def __init__(self, path: Path) -> None:
        self._path, self._inode, self._end = path, path.stat().st_ino, threading.Event()
        self.seen = math.nan
        self._thread = threading.Thread(target=self._look, name="eye")
        self._thread.start()

    def close(self) -> float:
        """Look no more; return when the change was seen (monotonic seconds), or NaN."""
        self._end.set()
        self._thread.join()
        return self.seen

    def _look(self) -> None:
        last = False
        while not last:
            last = self._end.is_set()  # one look more: it may have slept through the change
            if self._path.stat().st_ino != self._inode:
                self.seen = time.monotonic()
                return
            time.sleep(0.0005)


def measure(
    serving: Serving, load: Load, run: Run, model: str, *, swaps: int, requests: int, every_s: float, loads: int
) -> None:
    """Promote and roll back `swaps` times each; then `loads` times a version that has to be loaded first.

    Before and after the swaps there is the same load without any: half of the requests come first, so that what the
    traffic fills (the log's kept rows, the allocators' pools) is full when the swaps begin.
    """
    file = Workspace(serving.settings).route_file(model)
    with httpx.Client(base_url=f"{serving.api}/v1/models/{model}", timeout=60) as api:
        _watch_calmly(serving, load, run.warm_up_memory, requests // 2, 0, every_s)
        begun = time.monotonic()
        for number in range(2 * swaps):
            _sleep_until(begun + (number + 1) * every_s)
            _flip(api, run, file, 2 if number % 2 == 0 else None)
            run.memory.append(serving.memory_mb())
        _watch_calmly(serving, load, run.calm_memory, requests, max(8, swaps // 4), every_s)
        for number in range(loads):
            _flip(api, run, file, 3 + number, loads=True)
            time.sleep(2.0)
    run.restarts = int(httpx.get(f"{serving.api}/healthz", timeout=10).json()["triton"]["restarts"])


def _watch_calmly(
    serving: Serving, load: Load, into: list[dict[str, float]], requests: int, least: int, every_s: float
) -> None:
    """Note memory, as often as with swaps or every two seconds, until so many requests and notes there were."""
    begun = time.monotonic()
    while len(into) < least or load.requests() < requests:
        _sleep_until(begun + (len(into) + 1) * min(every_s, _CALM_S))
        into.append(serving.memory_mb())


def _flip(api: httpx.Client, run: Run, file: Path, promote: int | None, *, loads: bool = False) -> None:
    body = {"reason": "benchmark"} | ({} if promote is None else {"version": promote})
    eye = RouteEye(file)
    try:
        started = time.monotonic()
        answer = api.post("rollback" if promote is None else "promote", json=body)
        ended = time.monotonic()
    finally:
        visible = eye.close()
    answer.raise_for_status()
    version, rollback = int(answer.json()["champion"]), promote is None
    run.flips.append(
        Flip(started=started, ended=ended, version=version, rollback=rollback, loads=loads, visible=visible)
    )


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


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
    parser.add_argument("--task", choices=_WORLDS, default="text_classification", help="of the two versions")
    parser.add_argument("--swaps", type=int, default=200, help="promotions, and as many rollbacks")
    parser.add_argument("--requests", type=int, default=100_000, help="at least so many")
    parser.add_argument("--every", type=float, default=0.9, help="seconds between two commands")
    parser.add_argument("--loads", type=int, default=8, help="promotions of versions that must be loaded first")
    parser.add_argument("--clients", type=int, default=1, help="of each protocol")
    parser.add_argument("--think-ms", type=float, default=6.0, help="a client's mean pause, so that two cores suffice")
    parser.add_argument("--rows", type=int, default=900, help="training rows of the first version")
    parser.add_argument("--folder", type=Path, help="workspace; its versions are kept")
    chosen = parser.parse_args()
    world, name = _WORLDS[chosen.task], "swap" if chosen.task == "text_classification" else f"swap_{chosen.task}"
    folder = (chosen.folder or record.OUT / name).resolve()
    print("two versions", file=sys.stderr)
    config = world.make(folder, chosen.rows)
    workspace = Workspace(load_settings(config))
    for number in range(chosen.loads):
        publish_copy(workspace, world.model, 1 + number % 2, 3 + number)
    table = world.table(workspace, (1, 2), 600)
    for number in range(chosen.loads):
        table.labels_of_version[3 + number] = table.labels_of_version[1 + number % 2]
    serving = Serving(config)
    load: Load | None = None
    try:
        serving.start()
        _begin_with_version_one(serving, world.model)
        spec = LoadSpec(
            model=world.model,
            asks=world.asks,
            says=world.says,
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
        gc.collect()
        gc.freeze()
        measure(
            serving,
            load,
            run,
            world.model,
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
        "texts_told_apart": sum(
            a != b for a, b in zip(table.labels_of_version[1], table.labels_of_version[2], strict=True)
        ),
        "clients": {"grpc": chosen.clients, "http": chosen.clients, "think_ms": chosen.think_ms},
        "commands": f"control API, POST /v1/models/{world.model}/promote and /rollback",
        "windows_s": {"before": BEFORE_S, "after": AFTER_S, "every": chosen.every},
        "load_average": os.getloadavg(),
    }
    for figure, value in results.items():
        print(f"{figure:32} {value if not isinstance(value, float) else round(value, 3)}")
    print(record.write(name, results))


def _begin_with_version_one(serving: Serving, model: str) -> None:
    """Both versions resident and 1 the champion, whatever an earlier run left."""
    with httpx.Client(base_url=f"{serving.api}/v1/models/{model}", timeout=120) as api:
        for version in (2, 1):
            api.post("promote", json={"version": version, "reason": "benchmark"}).raise_for_status()


if __name__ == "__main__":
    main()
