"""Class-incremental BANKING77 on frozen MiniLM embeddings: Perennial's learners beside Avalanche 0.6.0.

    python -m benchmarks.learning --data FOLDER [--quick] [--without-avalanche]

Seven updates of eleven new classes, in the published order and four seeded ones. The test set is looked at only at the
end of each update; hyper-parameters come from a hold-out of the training rows. All arms read the same embeddings and
are scored by one function; those that train a network start from the same weights and take the same steps (cumulative
and GDumb excepted: their steps are in the record). Needs matplotlib for the plots, beside the benchmarks extra.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import learning_arms, learning_avalanche, learning_data, learning_tuned, record
from benchmarks.learning_arms import Tuned, Update
from benchmarks.learning_cache import ArmCache
from benchmarks.learning_kind import Chosen, choose
from benchmarks.learning_network import rehearsed_mlp
from benchmarks.learning_report import plot, table
from benchmarks.learning_score import Scored, compare, score
from perennial.continual.jobs.memory import resident_mb
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.names import LearnerName
from perennial.continual.preparation import read_labelled_file
from perennial.continual.records import Example
from perennial.continual.replay import BufferKind, make_buffer

__all__ = ["main"]

PER_UPDATE = 11
BUDGETS = (77, 385, 770)
GAMMA = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the table and write `learning.json` and two plots."""
    options = _options(arguments)
    cache = options.out / "cache"
    data = learning_data.load(options.data, cache)
    orders = learning_data.class_orders(len(data.labels), 1 if options.quick else options.orders)
    budgets = BUDGETS[1:2] if options.quick else BUDGETS
    arms = _ours(data, orders, budgets, ArmCache(cache / "perennial", data.digest), quick=options.quick)
    if not options.without_avalanche:
        python = learning_avalanche.environment(options.out / ".venv-avalanche")
        runs = learning_avalanche.plan(orders, budgets, PER_UPDATE, quick=options.quick)
        folder = learning_avalanche.run(python, data, runs, cache, missing=not options.finished_avalanche_runs)
        for run in runs:
            if options.finished_avalanche_runs and not (folder / f"{run['name']}.npz").exists():
                continue
            about = _about(run["arm"], "avalanche", run["buffer_rows"], run["order"])
            arms.append(score(about, learning_avalanche.read(folder, run), run["classes"], data.y_test, PER_UPDATE))
    rebuilt = (
        None if options.without_tuned or options.quick else _tuned_arms(data, options.data, cache, orders[0], arms)
    )
    differences = _differences(arms)
    print(table([arm.record for arm in arms], differences))
    results = {
        "embeddings": data.digest,
        "arms": [arm.record for arm in arms],
        "differences": differences,
        "heads_rebuilt_after_tuning": rebuilt,
        "buffers": _buffers(data, 20_000 if options.quick else 1_000_000),
    }
    path = record.write("learning-quick" if options.quick else "learning", results, options.out)
    plots = plot([arm.record for arm in arms], options.out / "plots")
    print("\n".join(str(written) for written in (path, *plots)), file=sys.stderr)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.learning", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.csv, test.csv, categories.json")
    parser.add_argument("--out", type=Path, default=record.OUT, help="where results, plots and caches go")
    parser.add_argument("--orders", type=int, default=5, help="how many class orders, the published one first")
    parser.add_argument("--quick", action="store_true", help="published order, one budget, two Avalanche arms")
    parser.add_argument("--without-tuned", action="store_true", help="no arm with a tuned encoder")
    parser.add_argument("--without-avalanche", action="store_true", help="only Perennial's own arms")
    parser.add_argument(
        "--finished-avalanche-runs", action="store_true", help="take the runs that are there, and start no other"
    )
    return parser.parse_args(arguments)


def _ours(
    data: learning_data.Frozen, orders: list[list[int]], budgets: Sequence[int], cache: ArmCache, *, quick: bool
) -> list[Scored]:
    dimension = data.x_train.shape[1]
    features = {"kernel_lda": FourierFeatures.make(dimension=dimension, features=3000, gamma=GAMMA, seed=0)}
    if not quick:
        width = dimension * len(learning_data.LAYERS)
        features["kernel_lda_layers"] = FourierFeatures.make(dimension=width, features=5000, gamma=GAMMA, seed=0)
    tuned = {
        name: Tuned(**cache.value(f"tuned-{name}", {"D": mapping.size}, partial(_tuned, data, mapping)))
        for name, mapping in features.items()
    }
    base = list(features)[-1]
    chosen = {
        (name, rows): _rehearsal(cache, data, features[base], tuned[base], rows, sums=name == "rehearsal_and_sums")
        for rows in budgets
        for name in ("rehearsal", "rehearsal_and_sums")
    }
    arms: list[Scored] = []
    reference: dict[str, Any] = {}
    for number, order in enumerate(orders):

        def scored(name: str, rows: int, updates: Iterable[Update], **more: Any) -> None:
            about = {**_about(name, "perennial", rows, number), **more}  # noqa: B023 - called within this turn
            arms.append(score(about, updates, order, data.y_test, PER_UPDATE))  # noqa: B023
            _say(arms[-1])

        closed = {}
        for name, mapping in features.items():
            make = partial(learning_arms.kernel_lda, data, order, PER_UPDATE, mapping, tuned[name])
            updates = closed[name] = cache.runs(name, {"order": number, "D": mapping.size}, make)
            last = reference.setdefault(name, updates[-1].scores)
            drift = float(np.abs(updates[-1].scores - last).max())
            scored(name, 0, updates, hyper_parameters=asdict(tuned[name]), largest_logit_difference_to_order_0=drift)
        if not quick:
            with TemporaryDirectory() as folder:
                for learner in (LearnerName.KERNEL_LDA, LearnerName.RIDGE)[0 if number == 0 else 1 :]:
                    own, name = Path(folder) / learner, f"{learner}_job"
                    make = partial(learning_arms.fast_job, data, order, PER_UPDATE, own, learner)
                    scored(name, 0, cache.runs(name, {"order": number}, make))
        for (name, rows), picked in chosen.items():
            rehearsed = _rehearsed(cache, data, order, number, rows, picked)
            scored(name, rows, rehearsed, hyper_parameters=asdict(picked))
            mixed = learning_arms.blend(closed[base], rehearsed, picked.share)
            scored(f"{base}_and_{name}", rows, mixed, hyper_parameters=asdict(picked))
        middle = budgets[len(budgets) // 2]
        for kind in list(BufferKind) if number == 0 else []:
            plain = Chosen(kind=kind)
            scored(f"replay_{kind}", middle, _rehearsed(cache, data, order, number, middle, plain))
    return arms


def _rehearsed(
    cache: ArmCache, data: learning_data.Frozen, order: list[int], number: int, rows: int, picked: Chosen
) -> list[Update]:
    about = {"order": number, "rows": rows, "kind": picked.kind, **asdict(picked.how)}
    run = partial(rehearsed_mlp, data, order, PER_UPDATE, kind=picked.kind, rows=rows, seed=number, how=picked.how)
    return cache.runs("rehearsed", about, run)


def _tuned(data: learning_data.Frozen, mapping: FourierFeatures) -> dict[str, float]:
    return asdict(learning_arms.tune(data, mapping))


def _rehearsal(
    cache: ArmCache, data: learning_data.Frozen, mapping: FourierFeatures, tuned: Tuned, rows: int, *, sums: bool
) -> Chosen:
    """How networks rehearse, and their share in the blend, chosen on the training hold-out for this budget."""
    about = {"rows": rows, "D": mapping.size, "sums": sums}
    return Chosen.read(
        cache.value(
            "chosen", about, lambda: asdict(choose(data, PER_UPDATE, rows, mapping, tuned, stored_rows_only=not sums))
        )
    )


def _tuned_arms(
    data: learning_data.Frozen, source: Path, cache: Path, order: list[int], arms: list[Scored]
) -> dict[str, float]:
    """Add the arms whose encoder is tuned; returns what a head that is rebuilt after the tuning loses."""
    tests = [row.text for row in read_labelled_file(source / "test.csv")]
    folder = learning_tuned.work_folder(cache, data.digest)
    how = Tuned(shrinkage=3e-6, temperature=1.0, holdout_accuracy=-1.0)
    for arm in learning_tuned.tuned_arms(data, tests, order, PER_UPDATE, folder, how):
        about = _about(arm.name, "perennial", arm.rows, 0) | {"encoder": "tuned", "tuning": arm.about}
        arms.append(score(about, arm.updates, order, data.y_test, PER_UPDATE))
        _say(arms[-1])
    return learning_tuned.rebuilt_heads(data, tests, folder, len(order) // PER_UPDATE)


def _about(name: str, library: str, rows: int, order: int) -> dict[str, Any]:
    return {
        "name": name,
        "library": library,
        "encoder": "frozen",
        "buffer_rows": rows,
        "order": order,
        "seed": order,
    }


def _say(arm: Scored) -> None:
    r = arm.record
    print(
        f"{r['name']} rows={r['buffer_rows']} order={r['order']} final={r['final_accuracy']:.2f} "
        f"s/update={r['seconds_per_update']:.1f}",
        file=sys.stderr,
        flush=True,
    )


def _differences(arms: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return ours against each Avalanche arm: kernel LDA against all, replay against replay at equal rows."""
    groups: dict[tuple[str, str, int], list[Scored]] = {}
    for arm in arms:
        groups.setdefault((arm.record["library"], arm.record["name"], arm.record["buffer_rows"]), []).append(arm)
    rng = np.random.default_rng(0)
    found = []
    for (library, _, rows), theirs in groups.items():
        if library != "avalanche":
            continue
        rivals = ["kernel_lda", "kernel_lda_layers", "rehearsal", "rehearsal_and_sums"]
        rivals += [f"kernel_lda_layers_and_{name}" for name in rivals[2:]]
        for name in rivals:
            ours = groups.get(("perennial", name, 0)) or groups.get(("perennial", name, rows))
            if ours:
                found.append(compare(ours, theirs, rng))
    return found


def _buffers(data: learning_data.Frozen, offers: int) -> list[dict[str, Any]]:
    """Return processor microseconds an offer and the growth in memory, for each kind, 770 rows and 77 classes.

    New texts with the labels and embeddings of the training rows, in a random order that is gone through many times.
    """
    at = datetime(2026, 1, 1, tzinfo=UTC)
    found = []
    for kind in BufferKind:
        buffer = make_buffer(kind, 770, 0)
        count = offers // 10 if kind is BufferKind.HERDING else offers
        shuffled = np.random.default_rng(0).permutation(len(data.y_train))
        embedding, truth = data.x_train[shuffled], data.y_train[shuffled]
        before, spent = 0.0, 0.0
        for start in range(0, count, 10_000):
            rows = [
                Example(
                    text=f"how do I do the thing number {n} with my card", label=f"class {truth[n % len(truth)]}", at=at
                )
                for n in range(start, min(start + 10_000, count))
            ]
            began = time.process_time()
            for n, row in enumerate(rows):
                buffer.offer(row, embedding=embedding[n % len(embedding)], uncertainty=(n % 10) / 10)
            spent += time.process_time() - began
            if start == 0:
                before = resident_mb()
        found.append(
            {
                "kind": kind.value,
                "offers": buffer.seen,
                "rows": len(buffer),
                "cpu_microseconds_an_offer": 1e6 * spent / count,
                "growth_after_the_first_10000_mib": resident_mb() - before,
            }
        )
        print(found[-1], file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
