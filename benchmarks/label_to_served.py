"""`make bench-label_to_served ARGS="--data FOLDER"`: seconds from a label to the version that has learnt it.

A first version learns the folder's first rows. `perennial serve` then answers the other rows at a steady rate, each row
is labelled, and every `--labels` labels the policy opens a cycle: trained, exported, proved, judged, published, loaded,
promoted, with each gate on. The clock of an update runs from the delivery of the label that opened its cycle to the
first answer of the new version that a client sees. The processor seconds of all processes meanwhile tell more where
others use the machine; what answers the requests is among them. A rollout that waits for evidence by its settings
(shadow, canary) is off, as it is by default; the probation after the promotion delays nobody.
"""

import argparse
import csv
import json
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.label_to_served_jobs import jobs_again
from benchmarks.label_to_served_steps import Update, timed_steps
from benchmarks.label_to_served_world import ServedWorkspace
from perennial.ops.demo.data import DemoData, Row
from perennial.ops.demo.world import Answered, Source, Stream

_MODEL = "intent"
_ENOUGH_S = 180.0  # for one update


def main() -> None:
    """Serve, update, measure, and write `benchmarks/out/label_to_served.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with train.csv: a text and a label a row")
    parser.add_argument("--first", type=int, default=4_000, help="rows of the first version")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--labels", type=int, default=340, help="labels of an update; a tenth of them is held out")
    parser.add_argument("--rate", type=float, default=30.0, help="requests a second")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--learner", default="auto")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the workspace, which stays")
    parser.add_argument("--again", type=Path, help="a workspace that stayed: its last update's jobs are timed, no more")
    options = parser.parse_args()
    if options.again is not None:
        for name, found in jobs_again(options.again, _MODEL, times=options.updates).items():
            print(f"{name:<22}{statistics.median(found):>8.2f} processor seconds, median of {len(found)}")
        return
    if options.data is None:
        parser.error("give --data FOLDER, or --again with a workspace that stayed")
    root = options.keep or Path(tempfile.mkdtemp(prefix="label_to_served-"))
    root.mkdir(parents=True, exist_ok=True)
    try:
        results = _measured(options, root)
    finally:
        if options.keep is None:
            shutil.rmtree(root, ignore_errors=True)
    for name, figures in results["label_to_served_s"].items():
        print(f"{name:<22}{figures['median']:>8.2f} s median {figures['p90']:>8.2f} s p90")
    print(f"{'processors':<22}{results['processor_s']:>8.2f} s median")
    print(record.write("label_to_served", results))


def _measured(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    rows = _rows(options.data / "train.csv", options.seed)
    first, stream_rows = rows[: options.first], rows[options.first :]
    world = ServedWorkspace(root, _MODEL, labels=options.labels, learner=options.learner, engine=options.engine)
    first_s = world.first_version(first)
    data = DemoData(
        name="", first_intents=tuple({label for _, label in first}), seed=(), steady=stream_rows, waves=(), test=()
    )
    updates: list[Update] = []
    answered: list[Answered] = []
    stream = Stream(
        url=world.grpc,
        model=_MODEL,
        source=Source(data, options.seed),
        rate=options.rate,
        clients=options.clients,
        on_answer=answered.append,
    )
    try:
        world.start()
        stream.start()
        for number in range(1, options.updates + 1):
            update = _updated(world, answered, options.labels)
            updates.append(update)
            print(f"update {number}: {json.dumps(update.record())}", flush=True)
    finally:
        stream.stop()
        world.stop()
    settled = [a.latency_ms for a in answered if not a.error]
    return {
        "classes": len(data.first_intents),
        "first_rows": len(first),
        "first_version_s": first_s,
        "labels_an_update": options.labels,
        "requests_a_second": options.rate,
        "learner": options.learner,
        "updates": len(updates),
        "promoted": sum(update.promoted for update in updates),
        "requests": len(answered),
        "failed": sum(bool(a.error) for a in answered),
        "latency_p50_ms": statistics.median(settled),
        "latency_p95_ms": statistics.quantiles(settled, n=20)[-1],
        "label_to_served_s": timed_steps([update for update in updates if update.promoted]),
        "processor_s": statistics.median(update.processor_s for update in updates),
        "by_update": [update.record() for update in updates],
    }


def _rows(path: Path, seed: int) -> tuple[Row, ...]:
    import numpy as np

    with path.open(encoding="utf-8", newline="") as file:
        read = [(row[0], row[1]) for row in list(csv.reader(file))[1:]]
    order = np.random.default_rng(seed).permutation(len(read))
    return tuple(read[place] for place in order)


def _updated(world: ServedWorkspace, answered: list[Answered], labels: int) -> Update:
    """Wait for so many new answers, label them at once, and follow the cycle to the first answer of its version."""
    begin = len(answered)
    while len(answered) < begin + labels:
        time.sleep(0.1)
    given = [
        {"prediction_id": a.prediction_id, "label": a.label} for a in answered[begin : begin + labels] if not a.error
    ]
    since, used = world.last_event(), world.processor_s()
    world.http.post("/v1/feedback", json={"model": _MODEL, "labels": given}).raise_for_status()
    labelled = datetime.now(UTC)
    deadline, seconds = time.monotonic() + _ENOUGH_S, -1.0
    while time.monotonic() < deadline:
        update = Update.of(labelled, world.events_since(since), answered[begin:], world)
        if update is not None and seconds < 0:
            seconds = world.processor_s() - used
        if update is not None and not update.in_probation:
            return replace(update, processor_s=seconds)
        time.sleep(0.1)
    raise SystemExit(f"no cycle ended within {_ENOUGH_S:.0f} s of its labels; see {world.log}")


if __name__ == "__main__":
    main()
