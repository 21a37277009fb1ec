"""Perennial beside other servers with the same engine in them, and the limit of that engine in a process of its own.

    python -m benchmarks.serving --data FOLDER [--servers ...] [--engines auto fp32 bf16 int8] [--rounds 3]

FOLDER has `train.csv` and `test.csv` (BANKING77). `perennial init` makes the workspace; `perennial serve` answers with
its loop on and everything logged. The servers take turns, round by round, each started anew. One closed loop a
connection, by `wrk` where it is installed, on the same cores. Every other server lives in an environment of its own,
in `~/.cache/perennial-serving-peers`. `--variant NAME KEY=VALUE ...` is Perennial with other settings, by their
environment variables. Writes `benchmarks/out/serving.json`; figures are medians of the rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.serving_load import Load, grpc_load, http_load, write_bodies
from benchmarks.serving_processes import parts_s, pss_mb
from benchmarks.serving_rivals import RIVALS, kserve_body
from benchmarks.serving_servers import Ours, Peer, Server
from benchmarks.serving_world import ENGINES, World, make_world

__all__ = ["main"]

_ROOT = Path(__file__).parents[1]
_BODIES = 2_000
_WARM = 32  # connections of the warm-up


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What each server is asked."""

    engines: tuple[str, ...]
    protocols: tuple[str, ...]
    texts: tuple[int, ...]
    connections: tuple[int, ...]
    rounds: int
    seconds: float
    warm_s: float


class Figures:
    """Measurements by what was measured, and their medians."""

    def __init__(self) -> None:
        self._taken: dict[tuple[Any, ...], list[dict[str, float]]] = defaultdict(list)

    def add(self, key: tuple[Any, ...], **figures: float) -> None:
        """One round's."""
        self._taken[key].append(figures)

    def rows(self, *names: str) -> list[dict[str, Any]]:
        """A row for each key, whose parts have these names; errors are summed."""
        found = []
        for key, taken in self._taken.items():
            names_of = sorted({name for each in taken for name in each})
            figures = {name: statistics.median(each.get(name, 0.0) for each in taken) for name in names_of}
            if "errors" in figures:
                figures["errors"] = sum(each["errors"] for each in taken)
            found.append({**dict(zip(names, key, strict=True)), **{n: round(v, 3) for n, v in figures.items()}})
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds, print a table and write `serving.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--servers", nargs="+", default=["perennial", "fastapi-batcher"])
    parser.add_argument("--variant", nargs="+", action="append", default=[], metavar="NAME KEY=VALUE")
    parser.add_argument("--checkout", type=Path, help="another state of the program beside this one, with its .venv")
    parser.add_argument("--engines", nargs="+", default=["auto"], choices=["auto", *ENGINES])
    parser.add_argument("--protocols", nargs="+", default=["http"], choices=["http", "grpc"])
    parser.add_argument("--texts", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 8, 32, 64, 512])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one measurement")
    parser.add_argument("--warm", type=float, default=8.0, help="seconds of load before a server is measured")
    parser.add_argument("--folder", type=Path, default=record.OUT / "serving", help="workspace; its versions are kept")
    parser.add_argument("--out", type=Path, default=record.OUT)
    options = parser.parse_args(arguments)
    plan = Plan(
        engines=tuple(options.engines),
        protocols=tuple(options.protocols),
        texts=tuple(options.texts),
        connections=tuple(options.connections),
        rounds=options.rounds,
        seconds=options.seconds,
        warm_s=options.warm,
    )
    world = make_world(options.folder.resolve(), options.data.resolve(), plan.engines)
    servers: list[Server] = [_server(name, world) for name in options.servers]
    servers += [_variant(words, world) for words in options.variant]
    if options.checkout is not None:
        servers.append(Ours(world, name="perennial before", version="other", checkout=options.checkout.resolve()))
    results = measure(plan, world, servers)
    path = record.write("serving", results, options.out)
    print_table(results)
    print(path)
    return 0


def _server(name: str, world: World) -> Server:
    return Ours(world) if name == "perennial" else Peer(RIVALS[name], world)


def _variant(words: Sequence[str], world: World) -> Server:
    name, *pairs = words
    return Ours(world, name=f"perennial {name}", changed=dict(pair.split("=", 1) for pair in pairs))


def measure(plan: Plan, world: World, servers: Sequence[Server]) -> dict[str, Any]:
    """All rounds, each of which begins with another server."""
    loads, starts, limits = Figures(), Figures(), Figures()
    texts = write_bodies(world.config.parent / "texts.txt", world.texts)
    for number in range(plan.rounds):
        for engine in plan.engines:
            for rows in sorted({min(64, c * t) for c in plan.connections for t in plan.texts}):
                limits.add((world.told(engine), rows), **_limit(world.bundle(engine), texts, rows, plan.seconds))
            turn = number % len(servers)
            for server in [*servers[turn:], *servers[:turn]]:
                _measure_one(plan, world, server, engine, loads, starts)
    return {
        "limit": limits.rows("engine", "rows"),
        "servers": loads.rows("name", "version", "engine", "protocol", "texts", "connections"),
        "starts": starts.rows("name", "engine"),
        "texts": "BANKING77, test",
        "rounds": plan.rounds,
        "seconds": plan.seconds,
    }


def _measure_one(plan: Plan, world: World, server: Server, engine: str, loads: Figures, starts: Figures) -> None:
    told = world.told(engine)
    cold_s = server.start(engine)
    try:
        idle_mb = pss_mb(server.processes())
        for protocol in plan.protocols:
            if protocol == "grpc" and not server.grpc:
                continue
            body = server.body if protocol == "http" else kserve_body
            for texts in plan.texts:
                bodies = _bodies(world, server.name, protocol, texts, body)
                _load(server, protocol, bodies, _WARM, plan.warm_s)
                for connections in plan.connections:
                    before, began = parts_s(server.processes()), time.perf_counter()
                    load = _load(server, protocol, bodies, connections, plan.seconds)
                    passed, after = time.perf_counter() - began, parts_s(server.processes())
                    parts = {part: after[part] - before.get(part, 0.0) for part in after}
                    answered = max(1, load.requests)
                    figures = {f"{part}_ms": 1000.0 * used / answered for part, used in parts.items()}
                    key = (server.name, server.version, told, protocol, texts, connections)
                    loads.add(
                        key,
                        requests_per_s=load.requests_per_s,
                        p50_ms=load.p50_ms,
                        p99_ms=load.p99_ms,
                        errors=load.errors,
                        cpu_ms_a_request=1000.0 * sum(parts.values()) / answered,
                        cores=sum(parts.values()) / passed,
                        **{name.replace(" ", "_"): figures[name] for name in figures},
                    )
                    print(*key, f"{load.requests_per_s:.0f}/s p99 {load.p99_ms:.0f} ms", file=sys.stderr, flush=True)
        starts.add((server.name, told), cold_s=cold_s, idle_mb=idle_mb, loaded_mb=pss_mb(server.processes()))
    finally:
        server.stop()


def _load(server: Server, protocol: str, bodies: Path, connections: int, seconds: float) -> Load:
    if protocol == "http":
        return http_load(server.url, bodies, connections=connections, seconds=seconds)
    return grpc_load(server.grpc, bodies, connections=connections, seconds=seconds)


def _bodies(world: World, name: str, protocol: str, texts: int, body: Any) -> Path:
    count, every = len(world.texts), [*world.texts, *world.texts]
    chosen = [every[(n * texts) % count :][:texts] for n in range(_BODIES)]
    path = world.config.parent / "bodies" / f"{name}-{protocol}-{texts}.txt".replace(" ", "-")
    return write_bodies(path, [body(each) for each in chosen])


def _limit(bundle: Path, texts: Path, rows: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.serving_limit", str(bundle), str(texts), str(rows), str(seconds)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def print_table(results: dict[str, Any]) -> None:
    """A line a measurement, for people."""
    for row in results["limit"]:
        print(f"limit {row['engine']} {row['rows']:>4} rows: {row['rows_per_s']:.0f} rows/s")
    for row in results["servers"]:
        print(
            f"{row['name']:<24} {row['engine']:<18} {row['protocol']} {row['texts']} x {row['connections']:>3}: "
            f"{row['requests_per_s']:6.0f}/s  p50 {row['p50_ms']:6.1f}  p99 {row['p99_ms']:6.1f} ms  "
            f"{row['cpu_ms_a_request']:.2f} ms CPU  errors {row['errors']:.0f}"
        )
    for row in results["starts"]:
        print(f"{row['name']:<24} {row['engine']:<18} cold {row['cold_s']:.1f} s, {row['loaded_mb']:.0f} MB loaded")


if __name__ == "__main__":
    sys.exit(main())
