"""What the processes of `perennial serve` hold, by role, with two and more resident versions.

    python -m benchmarks.memory --data FOLDER [--engines bf16 int8] [--rounds 1] [--checkout OTHER]

FOLDER has `train.csv` and `test.csv` (BANKING77). `perennial init` makes the workspace, `perennial export` further
versions of the same engine. `perennial serve` is started with its loop on. Each version is promoted in turn, so that
one more is resident, and answers some hundred requests. It goes on with two a second for `--wait` seconds, as versions
that wait need time to rest. Then every process's memory is read from its `smaps_rollup`: PSS, private and dirty, and
shared. `--checkout` has another state of the program beside this one, `--variant NAME
KEY=VALUE ...` other settings by their environment variables; they take turns. Writes `benchmarks/out/memory.json`.
"""

import argparse
import itertools
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from benchmarks import record
from benchmarks.serving_load import http_load, write_bodies
from benchmarks.serving_processes import Held, held_by_role, parts_s
from benchmarks.serving_servers import Ours
from benchmarks.serving_world import ENGINES, MODEL, World, further_versions, make_world, perennial, set_resident

__all__ = ["main"]

_CONNECTIONS = 32
_VERSIONS = 3
_WARM = "perennial.continual.jobs.warm_process"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds, print what each process held and write `memory.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--engines", nargs="+", default=["bf16", "int8"], choices=list(ENGINES))
    parser.add_argument("--variant", nargs="+", action="append", default=[], metavar="NAME KEY=VALUE")
    parser.add_argument("--checkout", type=Path, help="another state of the program beside this one, with its .venv")
    parser.add_argument("--versions", type=int, default=_VERSIONS, help="resident at the end, two or more")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0, help="of load on each version")
    parser.add_argument("--wait", type=float, default=45.0, help="seconds of few requests between load and look")
    parser.add_argument("--folder", type=Path, default=record.OUT / "memory", help="workspace; its versions are kept")
    parser.add_argument("--out", type=Path, default=record.OUT)
    options = parser.parse_args(arguments)
    world = make_world(options.folder.resolve(), options.data.resolve(), options.engines)
    numbers = {name: further_versions(world, name, options.versions) for name in options.engines}
    servers = [Ours(world)]
    if options.checkout is not None:
        servers.insert(0, Ours(world, name="perennial before", version="other", checkout=options.checkout.resolve()))
    for name, *pairs in options.variant:
        servers.append(Ours(world, name=f"perennial {name}", changed=dict(pair.split("=", 1) for pair in pairs)))
    rows = []
    for number in range(options.rounds):
        for engine in options.engines:
            for server in servers:
                rows += _looked_at(world, server, engine, numbers[engine], options.seconds, options.wait, number)
    results = {"looks": rows, "totals": _totals(rows), "seconds": options.seconds, "rounds": options.rounds}
    path = record.write("memory", results, options.out)
    _print(results["totals"])
    print(path)
    return 0


def _looked_at(
    world: World, server: Ours, engine: str, versions: Sequence[int], seconds: float, wait_s: float, number: int
) -> list[dict[str, Any]]:
    bodies = write_bodies(world.config.parent / "bodies.txt", [server.body([text]) for text in world.texts])
    found: list[dict[str, Any]] = []
    set_resident(world.config, 2)  # so that whatever an earlier look promoted goes
    server.start(engine)
    try:
        for resident, version in enumerate(versions, start=1):
            if resident > 1:
                set_resident(world.config, resident)
                perennial(world.config, "model", "promote", str(version), "--model", MODEL)
            before = parts_s(server.processes())
            load = http_load(server.url, bodies, connections=_CONNECTIONS, seconds=seconds)
            if resident > 1:
                _ask_now_and_then(server, world.texts, wait_s)
                used, held = parts_s(server.processes()), held_by_role(server.processes())
                look = {"name": server.name, "engine": world.told(engine), "resident": resident, "round": number}
                _print_look(look, held)
                cpu_s = sum(used.values()) - sum(before.values())
                told = {"requests": load.requests, "errors": load.errors, "cpu_s": cpu_s}
                found.append({**look, **told, "held": [asdict(each) for each in held]})
    finally:
        server.stop()
    return found


def _ask_now_and_then(server: Ours, texts: Sequence[str], seconds: float) -> None:
    """So that the champion is one that answers, and no other version is."""
    end, turn = time.monotonic() + seconds, itertools.cycle(texts)
    with httpx.Client(timeout=10.0, headers={"Content-Type": "application/json"}) as client:
        while time.monotonic() < end:
            client.post(server.url, content=server.body([next(turn)])).raise_for_status()
            time.sleep(0.5)


def _print_look(look: dict[str, Any], held: Iterable[Held]) -> None:
    held = tuple(held)
    print(*look.values(), f"PSS {sum(each.pss for each in held):.0f} MB", flush=True)
    for each in held:
        print(f"    {each.role:<45} PSS {each.pss:6.1f}  private {each.private:6.1f}  shared {each.shared:6.1f} MB")


def _totals(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """PSS by role, of all, and of all but jobs under way (a report, a training), the median of the rounds."""
    taken: dict[tuple[Any, ...], list[dict[str, float]]] = defaultdict(list)
    for row in rows:
        sums: dict[str, float] = defaultdict(float)
        for each in row["held"]:
            sums[each["role"]] += each["pss"]
        everything = sum(sums.values())
        jobs = sum(mb for role, mb in sums.items() if "." in role and role != _WARM)
        told = {**sums, "all": everything, "all but jobs": everything - jobs}
        taken[row["name"], row["engine"], row["resident"]].append(told)
    found = []
    for (name, engine, resident), each in taken.items():
        roles = sorted({role for sums in each for role in sums})
        figures = {role: round(statistics.median(sums.get(role, 0.0) for sums in each), 1) for role in roles}
        found.append({"name": name, "engine": engine, "resident": resident, "pss_mb": figures})
    return found


def _print(totals: Iterable[dict[str, Any]]) -> None:
    for row in totals:
        figures = "  ".join(f"{role.rpartition('.')[2]} {mb:.0f}" for role, mb in row["pss_mb"].items())
        print(f"{row['name']:<24} {row['engine']:<18} {row['resident']} resident: {figures}")


if __name__ == "__main__":
    sys.exit(main())
