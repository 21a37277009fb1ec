"""What differential privacy of a head costs, and what an attack learns of its rows: gold headlines at several epsilons.

    python -m benchmarks.privacy --data FOLDER [--out FOLDER] [--quick]

3,800 headlines at random, 3,000 others to judge on, delta 1e-5, for each of several draws. A kernel LDA of noised sums,
told at once or in ten updates, stands beside a linear head of noised gradients by Opacus (DP-SGD). "Budget 8" is one
version where epsilon 8 has room for three, the default. Beside them stand both with hardly any noise, the ridge at its
defaults without noise, and always the most frequent class. Settings are those of a version with noise: no row chooses
them. It is also told how well an attacker tells learnt rows from others by how sure it is of the right label: 50 is
chance.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import federation_data, record
from benchmarks.federation_data import Rows
from perennial.continual.arrays import softmax
from perennial.continual.learning.closed_form import CLOSED_FORMS, FastSettings
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.head import HeadWeights, Priors
from perennial.continual.learning.kernel_lda import Discriminant, KernelLda
from perennial.continual.learning.private_gradients import head_by_gradients
from perennial.continual.learning.selection import HeldOut, default_penalty
from perennial.continual.learning.told_sums import ToldSums, beyond, exact_sums
from perennial.continual.privacy.noise import Privacy
from perennial.continual.quality.membership import membership_auc

__all__ = ["main"]

EPSILONS, DELTA = (8.0, 4.0, 2.0, 1.0), 1e-5
TRAIN, TEST = 3_800, 3_000
SHRINKAGE = 1e-6
UPDATES = 10
TELLINGS = 3  # of the same rows, for which the default leaves room
_HARDLY = 1e6  # an epsilon at which there is hardly any noise
_NOTHING = HeldOut(X=np.zeros((0, 384), dtype=np.float32), labels=())


def answers(head: HeadWeights, train: Rows, test: Rows) -> tuple[float, float]:
    """Percent right, and how well the attack does, in percent of pairs."""
    found = []
    for rows in (train, test):
        scores = head.logits(rows.X, rows.texts)
        place = {label: number for number, label in enumerate(head.labels)}
        truth = np.array([place.get(label, -1) for label in rows.labels])
        sure = np.where(truth >= 0, softmax(scores)[np.arange(len(truth)), truth], 0.0)
        found.append((float((scores.argmax(axis=1) == truth).mean()), sure))
    return 100.0 * found[1][0], 100.0 * membership_auc(found[0][1], found[1][1]).mean


def features(train: Rows) -> KernelLda:
    """Empty sums of bounded features."""
    return KernelLda(FourierFeatures.bounded(dimension=train.X.shape[1], seed=0))


def by_sums(train: Rows, epsilon: float, rng: np.random.Generator, updates: int = 1) -> HeadWeights:
    """A kernel LDA of noised sums: of half the rows at first and the rest in updates, where there are several."""
    own, multiplier = features(train), Privacy(epsilon=epsilon, delta=DELTA).multiplier
    told = ToldSums.nothing(own)
    half = len(train) // 2
    pieces = [len(train)] if updates == 1 else [half, *[(len(train) - half) // updates] * updates]
    start = 0
    for size in pieces:
        before = exact_sums(own)
        own.add(train.at(np.arange(start, min(start + size, len(train)))).for_sums)
        told = told.telling(beyond(exact_sums(own), before), own, multiplier, rng)
        start += size
    head: HeadWeights = told.settled(own).solve(Discriminant(shrinkage=SHRINKAGE, priors=Priors.EMPIRICAL))
    return head


def by_gradients(train: Rows, epsilon: float) -> HeadWeights:
    """A linear head by Opacus."""
    own = features(train)
    own.add(train.for_sums)
    return head_by_gradients(own, train.for_sums, Privacy(epsilon=epsilon, delta=DELTA))


def by_default(train: Rows) -> HeadWeights:
    """The ridge that reads words too, without noise."""
    sums = CLOSED_FORMS["ridge"].make(FastSettings(), train.for_sums, _NOTHING, dimension=train.X.shape[1], seed=0)
    sums.add(train.for_sums)
    head: HeadWeights = sums.solve(default_penalty(sums))
    return head


def compared(rows: Rows, draws: int) -> dict[str, list[tuple[float, float]]]:
    """Percent right of each arm and of the attack on it, for each draw of rows and noise."""
    found: dict[str, list[tuple[float, float]]] = {}
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        order = rng.permutation(len(rows))
        train, test = rows.at(order[:TRAIN]), rows.at(order[TRAIN : TRAIN + TEST])
        arms: dict[str, Callable[[Rows], HeadWeights]] = {"ridge, defaults, no noise": by_default}
        noises = {"epsilon none": _HARDLY, **{f"epsilon {epsilon:g}": epsilon for epsilon in EPSILONS}}
        noises["budget 8"] = Privacy(epsilon=8.0, delta=DELTA).share(TELLINGS)
        for shown, epsilon in noises.items():
            arms[f"sums, {shown}"] = partial(by_sums, epsilon=epsilon, rng=rng)
            arms[f"gradients, {shown}"] = partial(by_gradients, epsilon=epsilon)
        arms[f"sums, epsilon 8, {UPDATES} updates"] = partial(by_sums, epsilon=8.0, rng=rng, updates=UPDATES)
        for name, arm in arms.items():
            found.setdefault(name, []).append(answers(arm(train), train, test))
        found.setdefault("most frequent class", []).append((_frequent(train, test), 50.0))
    return found


def _frequent(train: Rows, test: Rows) -> float:
    labels, counts = np.unique(train.labels, return_counts=True)
    return 100.0 * float((test.labels == labels[counts.argmax()]).mean())


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="gold_news")
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two draws")
    arguments = parser.parse_args()
    split = federation_data.read(arguments.data, arguments.out / "cache")
    rows = Rows(
        texts=(*split.train.texts, *split.test.texts),
        labels=np.concatenate([split.train.labels, split.test.labels]),
        X=np.concatenate([split.train.X, split.test.X]),
    )
    found = compared(rows, 2 if arguments.quick else arguments.draws)
    arms: dict[str, dict[str, Any]] = {}
    for name, values in found.items():
        right, attack = (np.array(column) for column in zip(*values, strict=True))
        arms[name] = {
            "mean": float(right.mean()),
            "sd": float(right.std(ddof=1)),
            "attack": float(attack.mean()),
            "draws": right.tolist(),
        }
    print(f"{'':32} right (sd)    attack")
    for name, arm in sorted(arms.items()):
        print(f"{name:32} {arm['mean']:5.1f} +- {arm['sd']:.1f}  {arm['attack']:5.1f}")
    print(record.write("privacy", {"delta": DELTA, "rows": TRAIN, "arms": arms}, arguments.out))


if __name__ == "__main__":
    main()
