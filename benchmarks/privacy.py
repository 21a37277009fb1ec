"""What differential privacy of exchanged sums costs: gold headlines at several epsilons.

    python -m benchmarks.privacy --data FOLDER [--out FOLDER] [--quick]

3,800 headlines at random, 3,000 others to judge on, delta 1e-5, for each of several draws. A kernel LDA on bounded
features is what is sent with noise. Beside it stand the same without noise, the ridge at its defaults without noise, a
linear head that is trained by noised gradients (DP-SGD on all rows at once, with the better of two numbers of steps, in
its favour), and always the most frequent class. Shrinkage is fixed: no row chooses it.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import federation_data, record
from benchmarks.federation_data import Rows
from perennial.continual.learning.closed_form import CLOSED_FORMS, FastSettings
from perennial.continual.learning.head import Priors
from perennial.continual.learning.kernel_lda import Discriminant
from perennial.continual.learning.selection import HeldOut, default_penalty
from perennial.continual.learning.sums import NamedSums
from perennial.continual.privacy.noise import Privacy, longest_row, noised, outer_noise, sound

__all__ = ["main"]

EPSILONS, DELTA = (8.0, 4.0, 2.0, 1.0), 1e-5
TRAIN, TEST = 3_800, 3_000
SHRINKAGE = 1e-6
STEPS, RATE, MOMENTUM, CLIP = (60, 240), 4.0, 0.9, 1.0
_KEPT = 0.9  # of the mean of the last steps, which is what answers
_NOTHING = HeldOut(X=np.zeros((0, 384), dtype=np.float32), labels=())


def right(head: Any, test: Rows) -> float:
    """Percent."""
    scores = head.logits(test.X, test.texts)
    return 100.0 * float((np.array(head.labels)[scores.argmax(axis=1)] == test.labels).mean())


def by_sums(train: Rows, test: Rows, epsilon: float | None, rng: np.random.Generator) -> float:
    """A kernel LDA of noised sums, as another site solves it."""
    settings = FastSettings(bounded=True)
    sums = CLOSED_FORMS["kernel_lda"].make(settings, train.for_sums, _NOTHING, dimension=train.X.shape[1], seed=0)
    sums.add(train.for_sums)
    if epsilon is not None:
        layout = {name: axes for name, axes in sums.named.layout.items() if not name.startswith("plain")}
        named = NamedSums(layout)
        arrays = {name: sums.named.arrays[name] for name in layout}
        named.restore({"class": sums.named.entries("class")}, arrays)
        multiplier, longest = Privacy(epsilon=epsilon, delta=DELTA).multiplier, longest_row(sums)
        told = sound(noised(named, longest, multiplier, rng), outer_noise(longest, multiplier))
        sums = sums.of_named(told)
    return right(sums.solve(Discriminant(shrinkage=SHRINKAGE, priors=Priors.EMPIRICAL)), test)


def by_default(train: Rows, test: Rows) -> float:
    """The ridge that reads words too, without noise."""
    sums = CLOSED_FORMS["ridge"].make(FastSettings(), train.for_sums, _NOTHING, dimension=train.X.shape[1], seed=0)
    sums.add(train.for_sums)
    return right(sums.solve(default_penalty(sums)), test)


def by_gradients(
    train: Rows, test: Rows, epsilon: float | None, rng: np.random.Generator, steps: int = STEPS[-1]
) -> float:
    """A linear softmax head: full-batch gradients, each row's cut to length 1, with noise for so many steps in all.

    Source: Abadi et al. 2016, "Deep Learning with Differential Privacy", without sampling, which accounts exactly.
    """
    labels = np.unique(train.labels)
    truth = (train.labels[:, None] == labels[None]).astype(np.float32)
    X = np.concatenate([train.X, np.ones((len(train), 1), dtype=np.float32)], axis=1)
    lengths = np.linalg.norm(X, axis=1)
    spread = 0.0 if epsilon is None else Privacy(epsilon=epsilon, delta=DELTA).multiplier * math.sqrt(steps) * CLIP
    W, step, mean = (np.zeros((X.shape[1], len(labels)), dtype=np.float32) for _ in range(3))
    for _ in range(steps if epsilon is not None else 600):
        scores = X @ W
        scores -= scores.max(axis=1, keepdims=True)
        shares = np.exp(scores)
        shares /= shares.sum(axis=1, keepdims=True)
        errors = shares - truth
        long = lengths * np.linalg.norm(errors, axis=1)
        errors *= np.minimum(1.0, CLIP / np.maximum(long, 1e-12))[:, None]
        gradient = X.T @ errors + np.float32(spread) * rng.standard_normal(W.shape, dtype=np.float32)
        step = MOMENTUM * step + gradient / len(X)
        W = W - RATE * step
        mean = _KEPT * mean + (1 - _KEPT) * W
    tests = np.concatenate([test.X, np.ones((len(test), 1))], axis=1)
    return 100.0 * float((labels[(tests @ mean).argmax(axis=1)] == test.labels).mean())


def compared(rows: Rows, draws: int) -> dict[str, list[float]]:
    """Percent right of each arm, for each draw of rows and noise."""
    found: dict[str, list[float]] = {}
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        order = rng.permutation(len(rows))
        train, test = rows.at(order[:TRAIN]), rows.at(order[TRAIN : TRAIN + TEST])
        arms: dict[str, Callable[[], float]] = {
            "most frequent class": lambda test=test, train=train: _frequent(train, test),  # type: ignore[misc]
            "ridge, defaults": lambda test=test, train=train: by_default(train, test),  # type: ignore[misc]
        }
        for epsilon in (None, *EPSILONS):
            found.setdefault(f"sums, epsilon {_shown(epsilon)}", []).append(by_sums(train, test, epsilon, rng))
        for epsilon in (None, *EPSILONS):
            tried = [by_gradients(train, test, epsilon, rng, steps) for steps in (STEPS if epsilon else STEPS[:1])]
            found.setdefault(f"gradients, epsilon {_shown(epsilon)}", []).append(max(tried))
        for name, arm in arms.items():
            found.setdefault(name, []).append(arm())
    return found


def _shown(epsilon: float | None) -> str:
    return "none" if epsilon is None else f"{epsilon:g}"


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
    arms = {
        name: {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)), "draws": values}
        for name, values in found.items()
    }
    for name, arm in sorted(arms.items()):
        print(f"{name:28} {arm['mean']:5.1f} +- {arm['sd']:.1f}")
    print(record.write("privacy", {"delta": DELTA, "rows": TRAIN, "arms": arms}, arguments.out))


if __name__ == "__main__":
    main()
