"""`make bench-rollout`: how often a canary errs, and how many labels it needs, over simulated rollouts.

The verdict is the product's own, `continual.rollout.judge_live`. Each row of traffic is labelled and answered by both
versions; the challenger gains or loses it with set probabilities. Four requests come for each label; of the
challenger's, 0.2% fail and 5% lie beyond the latency limit, as a healthy version's do: it must pass all three tests.
Beside the sequential verdict stands what is commonly done: a one-sided Fisher test at 5% on the labels of two separate
halves of the traffic, looked at as often.

The second table is of canaries whose time ran out with few labels. The third goes through `LiveEvidenceReader` with a
real traffic log and ledger: the labels come when more than 5,000 requests have been answered since.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import record
from benchmarks.rollout_world import LiveWorld
from perennial.continual.rollout import LiveEvidence, RolloutRules, Verdict, judge_live

_EVERY = 25
_ACCURACY = 0.92
_REQUESTS = 4  # for each label
_FAILING, _SLOW = 0.002, 0.05
_FEW = (30, 50, 100, 200, 300)
_LATE_LABELS, _LATE_BY = 300, 6_000


def main() -> None:
    """Simulate and write `benchmarks/out/rollout.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=400, help="simulated rollouts of each kind")
    parser.add_argument("--few-rollouts", type=int, default=1_000, help="rollouts of each kind with few labels")
    parser.add_argument("--live-rollouts", type=int, default=100, help="rollouts of each kind on a real log")
    parser.add_argument("--labels", type=int, default=1_500, help="labels until the time limit")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = []
    for disagreement, worse_by in _kinds((0.04, 0.06, 0.10), (0.0, 1.0, 3.0, 5.0)):
        rng = np.random.default_rng([options.seed, round(1000 * disagreement), round(10 * worse_by)])
        row = _simulated(rng, disagreement, worse_by, options.labels, options.rollouts)
        theirs = [_fisher(rng, worse_by, options.labels) for _ in range(options.rollouts)]
        rows.append({**row, "repeated_fisher_promoted": float(np.mean(theirs))})
        print(rows[-1], flush=True)
    few = []
    for disagreement, worse_by in _kinds((0.04, 0.10), (0.0, 3.0, 5.0)):
        for labels in _FEW:
            rng = np.random.default_rng([options.seed, round(1000 * disagreement), round(10 * worse_by), labels])
            few.append(_simulated(rng, disagreement, worse_by, labels, options.few_rollouts))
            print(few[-1], flush=True)
    late = _on_a_real_log(options.seed, options.live_rollouts)
    rules = RolloutRules()
    settings: dict[str, Any] = {"failing": _FAILING, "slow": _SLOW, "requests_a_label": _REQUESTS}
    settings |= {"margin_points": rules.margin_points, "error_rate": rules.error_rate, "looks_every_labels": _EVERY}
    results = {"rules": settings, "labels_at_limit": options.labels, "rollouts": rows, "few_labels": few, "late": late}
    print(record.write("rollout", results))


def _kinds(disagreements: tuple[float, ...], worse_by: tuple[float, ...]) -> list[tuple[float, float]]:
    """Versions cannot differ in accuracy by more than they disagree."""
    return [(share, points) for share in disagreements for points in worse_by if points / 100 <= share]


def _simulated(
    rng: np.random.Generator, disagreement: float, worse_by: float, labels: int, rollouts: int
) -> dict[str, Any]:
    ours = [_sequential(rng, _traffic(rng, disagreement, worse_by, labels)) for _ in range(rollouts)]
    return {
        "disagreement": disagreement,
        "worse_by_points": worse_by,
        "labels": labels,
        "rollouts": rollouts,
        "promoted": float(np.mean([held for held, _ in ours])),
        "labels_p50": float(np.median([seen for _, seen in ours])),
        "labels_p90": float(np.quantile([seen for _, seen in ours], 0.9)),
    }


def _on_a_real_log(seed: int, rollouts: int) -> list[dict[str, Any]]:
    late = []
    with tempfile.TemporaryDirectory() as folder:
        world = LiveWorld(Path(folder), seed)
        for disagreement, worse_by in ((0.10, 0.0), (0.10, 5.0)):
            rng = np.random.default_rng([seed, round(1000 * disagreement), round(10 * worse_by), _LATE_BY])
            traffic = [_traffic(rng, disagreement, worse_by, _LATE_LABELS) for _ in range(rollouts)]
            found = [world.rollout(rows.tolist(), _LATE_BY) for rows in traffic]
            late.append(
                {
                    "disagreement": disagreement,
                    "worse_by_points": worse_by,
                    "labels": _LATE_LABELS,
                    "requests": found[0][2],
                    "rollouts": rollouts,
                    "promoted": float(np.mean([held for held, _, _ in found])),
                    "compared_p50": float(np.median([compared for _, compared, _ in found])),
                }
            )
            print(late[-1], flush=True)
        world.close()
    return late


def _traffic(rng: np.random.Generator, disagreement: float, worse_by: float, labels: int) -> Any:
    """1 where only the challenger is right, -1 where only the champion is, 0 elsewhere; (labels,)."""
    gain = (disagreement - worse_by / 100) / 2
    return rng.choice([1, -1, 0], p=[gain, disagreement - gain, 1 - disagreement], size=labels)


def _sequential(rng: np.random.Generator, rows: Any) -> tuple[bool, int]:
    failed, slow = (np.cumsum(rng.random(_REQUESTS * len(rows)) < share) for share in (_FAILING, _SLOW))
    gains, losses = np.cumsum(rows == 1), np.cumsum(rows == -1)
    for seen in [*range(_EVERY, len(rows), _EVERY), len(rows)]:
        won, lost = int(gains[seen - 1]), int(losses[seen - 1])
        requests = _REQUESTS * seen
        evidence = LiveEvidence(
            gains=won,
            losses=lost,
            ties=seen - won - lost,
            asked=requests,
            failed=int(failed[requests - 1]),
            timed=requests,
            slow=int(slow[requests - 1]),
        )
        verdict = judge_live(evidence, RolloutRules(), at_limit=seen >= len(rows)).verdict
        if verdict is not Verdict.UNDECIDED:
            break
    return verdict is Verdict.HOLDS, seen


def _fisher(rng: np.random.Generator, worse_by: float, labels: int) -> bool:
    half = labels // 2
    champion = np.cumsum(rng.random(half) < _ACCURACY)
    challenger = np.cumsum(rng.random(half) < _ACCURACY - worse_by / 100)
    for seen in range(_EVERY, half + 1, _EVERY):
        old, new = int(champion[seen - 1]), int(challenger[seen - 1])
        if stats.fisher_exact([[new, seen - new], [old, seen - old]], alternative="less").pvalue < 0.05:
            return False
    return True


if __name__ == "__main__":
    main()
