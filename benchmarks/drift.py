"""Does the drift rule alarm when it should, and only then? False alarms, delays and cost on a labelled set.

    python -m benchmarks.drift --data DIR [--part streams] [--quick] [--window 200]

Clean requests are drawn with replacement from held-out rows that are not in the reference, so a long clean stream sees
a text more than once; a fresh reference is drawn for each part of it. Everything runs on one thread. `--part` runs one
part again and keeps the others' last figures; `results.parts` says at which commit each was made. The part long_run
goes on where it was stopped.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks import record
from benchmarks.drift_dependent import KINDS, dependent, found, long_run
from benchmarks.drift_false_alarm import rates
from benchmarks.drift_streams import REFERENCE_ROWS, changed, changes, clean, concept, split
from benchmarks.drift_traffic import Traffic, load
from benchmarks.drift_week import week
from benchmarks.drift_worth import nothing_to_learn, sitting
from perennial.continual.drift import DriftSettings, compare
from perennial.continual.drift.evidently_report import build_report, check_agreement

__all__ = ["main"]

Rows = list[dict[str, Any]]


def main() -> None:
    """Run, print a table and write `benchmarks/out/drift.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder `banking77` with its train.csv and test.csv")
    parser.add_argument("--also", type=Path, help="folder of another labelled set, for the part long_run")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the part long_run, on each set")
    parser.add_argument("--part", choices=sorted(_PARTS), action="append", help="run this part only; may be repeated")
    parser.add_argument("--kind", choices=KINDS, action="append", help="of the part dependent; may be repeated")
    parser.add_argument("--seed", type=int, default=23, help="of the part dependent")
    parser.add_argument("--quick", action="store_true", help="fewer repeats; figures are rough")
    parser.add_argument("--window", type=int, default=200, help="requests in a window")
    parser.add_argument("--out", type=Path, default=record.OUT)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")  # Evidently's tests divide by zero on empty cells
    results = _last(chosen.out) if chosen.part else {"parts": {}}
    with threadpool_limits(1):
        traffic = load(chosen.data, record.OUT / "cache")
        results["accuracy_on_known_intents"] = traffic.held_out_accuracy
        results["reference_rows"] = REFERENCE_ROWS
        for part in chosen.part or _PARTS:
            start = time.perf_counter()
            results[part] = _PARTS[part](traffic, chosen)
            results["parts"][part] = {
                "commit": record.commit(),
                "quick": chosen.quick,
                "window_rows": chosen.window,
                "seconds": time.perf_counter() - start,
            }
            path = record.write("drift", results, chosen.out)  # after each part, so that a stopped run keeps its parts
    print(path)


def _last(folder: Path) -> dict[str, Any]:
    """Return the last run's results; none is as good as an empty one."""
    try:
        results: dict[str, Any] = _object(folder / "drift.json")["results"]
    except (FileNotFoundError, ValueError):
        return {"parts": {}}
    return results | {"parts": results.get("parts", {})}


def _false_alarm(traffic: Traffic, chosen: argparse.Namespace) -> Rows:
    return [_shown(row) for row in rates(traffic.embeddings, quick=chosen.quick)]


def _streams(traffic: Traffic, chosen: argparse.Namespace) -> Rows:
    requests, parts, repeats = (6_000, 3, 3) if chosen.quick else (100_000, 10, 11)
    rows = [_shown(clean(traffic, chosen.window, requests, parts=parts))]
    rows += [_shown(changed(traffic, kind, chosen.window, repeats)) for kind in changes(traffic)]
    return [*rows, _shown(concept(traffic, repeats * 4))]


def _cost(traffic: Traffic, _: argparse.Namespace) -> Rows:
    return [_shown(_cost_of(traffic, rows)) for rows in (300, 1_000, 10_000, 100_000)]


def _dependent(traffic: Traffic, chosen: argparse.Namespace) -> Rows:
    requests = 6_000 if chosen.quick else 50_000
    return [_shown(row) for row in dependent(traffic, requests, only=chosen.kind or (), seed=chosen.seed)]


def _found(traffic: Traffic, chosen: argparse.Namespace) -> Rows:
    return [_shown(row) for row in found(traffic, 2 if chosen.quick else 10)]


def _long_run(traffic: Traffic, chosen: argparse.Namespace) -> Rows:
    requests = 50_000 if chosen.quick else chosen.requests
    sets = {chosen.data.name: traffic}
    if chosen.also is not None:
        sets[chosen.also.name] = load(chosen.also, record.OUT / "cache")
    kept = chosen.out / "drift_long_run.jsonl"
    done = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] if kept.exists() else []
    rows = []
    for name, its_traffic in sets.items():
        own = [row for row in done if row["data"] == name]
        for row in long_run(its_traffic, requests, begin=len(own)):
            own.append(_shown({"data": name, **row, "commit": record.commit()}))
            chosen.out.mkdir(parents=True, exist_ok=True)
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(own[-1]) + "\n")
        rows += own
    kept.unlink(missing_ok=True)
    return rows


def _worth(traffic: Traffic, chosen: argparse.Namespace) -> Rows:
    repeats = 2 if chosen.quick else 5
    rows = [_shown(sitting(traffic, share, labelled, repeats)) for share in (0.1, 0.3, 0.5) for labelled in (1.0, 0.3)]
    return [*rows, _shown(nothing_to_learn(traffic, 9_000 if chosen.quick else 100_000))]


def _week(traffic: Traffic, chosen: argparse.Namespace) -> Rows:
    return [_shown(week(traffic, seed)) for seed in range(1 if chosen.quick else 5)]


_PARTS: dict[str, Callable[[Traffic, argparse.Namespace], Rows]] = {
    "streams": _streams,
    "false_alarm": _false_alarm,
    "cost": _cost,
    "dependent": _dependent,
    "dependent_found": _found,
    "long_run": _long_run,
    "worth": _worth,
    "week": _week,
}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    print(
        "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()),
        flush=True,
    )
    return row


def _cost_of(traffic: Traffic, rows: int) -> dict[str, Any]:
    rng = np.random.default_rng(19)
    reference, pool = split(traffic, rng)
    current = traffic.clean.rows(rng.choice(pool, rows))
    took = []
    for _ in range(3):
        start = time.perf_counter()
        comparison = compare(reference, current, DriftSettings(), rng)
        took.append(time.perf_counter() - start)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        paths = build_report(reference, current, comparison, Path(folder) / "report.html", timeout_s=300)
        differences = check_agreement(_object(paths.json), comparison)
    return {
        "rows": rows,
        "decide_ms": median(took) * 1_000,
        "report_s": time.perf_counter() - start,
        "report_differs_from_decision": len(differences),
    }


def _object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file."""
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return facts


if __name__ == "__main__":
    main()
