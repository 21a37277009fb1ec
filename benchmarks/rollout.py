"""`make bench-rollout`: how often a rollout errs with the labels there are, and how long it takes.

Each row of traffic is labelled and answered by both versions; the challenger gains or loses it with set chances. Of its
requests 0.2% fail and 5% lie beyond the latency limit, as a healthy version's do. A cell of the table is: so many
labels by the rollout's age, so many points of difference, labels as they come or asked for where the versions disagree.
All tests of the product's verdict are made, at 60 looks and at the limit. The versions disagree on 6% of the rows, and
where they differ by 20 points on 20%, because they cannot differ by more than they disagree.

Labels that come late come to the same verdict later. The second part shows it: `LiveEvidenceReader` reads a real
traffic log and ledger by a simulated clock, with labels at once, an hour late and a day late, and its counts are
compared with the simulation's own after every hour.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.rollout_table import FAILING, SLOW, Cell, simulate
from benchmarks.rollout_world import LiveWorld
from perennial.continual.rollout import RolloutRules

_LABELS = (30, 90, 100, 360, 1_500)
_POINTS = (0.0, -1.0, -3.0, -5.0, -20.0, 2.0)
_LATE_H = (0.0, 1.0, 24.0)
_LABELS_AN_HOUR = 40.0
_READ_LABELS = 120


def main() -> None:
    """Simulate and write `benchmarks/out/rollout.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=10_000, help="simulated rollouts of each kind")
    parser.add_argument("--read-rollouts", type=int, default=10, help="rollouts of each kind on a real log")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rules = RolloutRules()
    table = [
        _row(cell, rules, options.rollouts, np.random.default_rng([options.seed, place]))
        for place, cell in enumerate(_cells())
    ]
    read = _through_the_reader(options.seed, options.read_rollouts)
    settings: dict[str, Any] = {"failing": FAILING, "slow": SLOW, "labels_an_hour": _LABELS_AN_HOUR}
    settings |= {"margin_points": rules.margin_points, "error_rate": rules.error_rate}
    print(record.write("rollout", {"rules": settings, "rollouts": options.rollouts, "table": table, "read": read}))


def _cells() -> list[Cell]:
    return [
        Cell(labels=labels, points=points, disagreement=0.20 if points < -6 else 0.06, asked=asked)
        for asked in (False, True)
        for labels in _LABELS
        for points in _POINTS
    ]


def _row(cell: Cell, rules: RolloutRules, rollouts: int, rng: np.random.Generator) -> dict[str, Any]:
    found = simulate(cell, rules, rollouts, rng)
    row = {
        "labels_are": "asked for" if cell.asked else "as they come",
        "labels": cell.labels,
        "points": cell.points,
        "disagreement": cell.disagreement,
        "promoted": found.promoted,
        "standard_error": found.standard_error,
        "labels_p50": found.labels_p50,
        "hours_p50": {f"{late:g} h late": round(found.labels_p50 / _LABELS_AN_HOUR + late, 2) for late in _LATE_H},
    }
    print(row, flush=True)
    return row


def _through_the_reader(seed: int, rollouts: int) -> list[dict[str, Any]]:
    read = []
    with tempfile.TemporaryDirectory() as folder:
        world = LiveWorld(Path(folder), seed)
        for asked in (False, True):
            cell = Cell(labels=_READ_LABELS, points=-3.0, disagreement=0.06, asked=asked)
            for late_h in _LATE_H:
                found = [world.rollout(cell, late_h, _LABELS_AN_HOUR) for _ in range(rollouts)]
                read.append(
                    {
                        "labels_are": "asked for" if asked else "as they come",
                        "late_h": late_h,
                        "rollouts": rollouts,
                        "labels": _READ_LABELS,
                        "looks": sum(one.looks for one in found),
                        "looks_with_the_same_counts": sum(one.equal for one in found),
                        "hours_until_the_last_label": max(one.hours for one in found),
                    }
                )
                print(read[-1], flush=True)
        world.close()
    return read


if __name__ == "__main__":
    main()
