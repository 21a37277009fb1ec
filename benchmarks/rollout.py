"""`make bench-rollout`: how often a canary errs, and how many labels it needs, over simulated rollouts.

The verdict is the product's own, `continual.rollout.judge_live`. Each row of traffic is labelled and answered by both
versions; the challenger gains or loses it with set probabilities. Four requests come for each label; of the
challenger's, 0.2% fail and 5% lie beyond the latency limit, as a healthy version's do: it must pass all three tests.
Beside the sequential verdict stands what is commonly done: a one-sided Fisher test at 5% on the labels of two separate
halves of the traffic, looked at as often.
"""

import argparse
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import record
from continual.rollout import LiveEvidence, RolloutRules, Verdict, judge_live

_EVERY = 25
_ACCURACY = 0.92
_REQUESTS = 4  # for each label
_FAILING, _SLOW = 0.002, 0.05


def main() -> None:
    """Simulate and write `benchmarks/out/rollout.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=400, help="simulated rollouts of each kind")
    parser.add_argument("--labels", type=int, default=1_500, help="labels until the time limit")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = []
    for disagreement in (0.04, 0.06, 0.10):
        for worse_by in (0.0, 1.0, 3.0, 5.0):
            if worse_by / 100 > disagreement:
                continue
            seed = [options.seed, round(1000 * disagreement), round(10 * worse_by)]
            rng = np.random.default_rng(seed)
            ours = [
                _sequential(rng, _traffic(rng, disagreement, worse_by, options.labels)) for _ in range(options.rollouts)
            ]
            theirs = [_fisher(rng, worse_by, options.labels) for _ in range(options.rollouts)]
            row = {
                "disagreement": disagreement,
                "worse_by_points": worse_by,
                "rollouts": options.rollouts,
                "promoted": float(np.mean([held for held, _ in ours])),
                "labels_p50": float(np.median([labels for _, labels in ours])),
                "labels_p90": float(np.quantile([labels for _, labels in ours], 0.9)),
                "repeated_fisher_promoted": float(np.mean(theirs)),
            }
            rows.append(row)
            print(row, flush=True)
    rules = RolloutRules()
    settings: dict[str, Any] = {"failing": _FAILING, "slow": _SLOW, "requests_a_label": _REQUESTS}
    settings |= {"margin_points": rules.margin_points, "error_rate": rules.error_rate, "looks_every_labels": _EVERY}
    print(record.write("rollout", {"rules": settings, "labels_at_limit": options.labels, "rollouts": rows}))


def _traffic(rng: np.random.Generator, disagreement: float, worse_by: float, labels: int) -> Any:
    """1 where only the challenger is right, -1 where only the champion is, 0 elsewhere; (labels,)."""
    gain = (disagreement - worse_by / 100) / 2
    return rng.choice([1, -1, 0], p=[gain, disagreement - gain, 1 - disagreement], size=labels)


def _sequential(rng: np.random.Generator, rows: Any) -> tuple[bool, int]:
    failed, slow = (np.cumsum(rng.random(_REQUESTS * len(rows)) < share) for share in (_FAILING, _SLOW))
    gains, losses = np.cumsum(rows == 1), np.cumsum(rows == -1)
    for seen in range(_EVERY, len(rows) + 1, _EVERY):
        won, lost = int(gains[seen - 1]), int(losses[seen - 1])
        asked = _REQUESTS * seen
        evidence = LiveEvidence(
            gains=won,
            losses=lost,
            ties=seen - won - lost,
            asked=asked,
            failed=int(failed[asked - 1]),
            timed=asked,
            slow=int(slow[asked - 1]),
        )
        verdict = judge_live(evidence, RolloutRules(), at_limit=seen >= len(rows)).verdict
        if verdict is not Verdict.UNDECIDED:
            return verdict is Verdict.HOLDS, seen
    return True, len(rows)


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
