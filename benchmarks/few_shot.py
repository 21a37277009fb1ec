"""Classes that begin as a name and a sentence: BANKING77 with eleven classes held back.

    python -m benchmarks.few_shot --data FOLDER [--quick]

A kernel head learns 66 classes with all their training rows. The other eleven join with 0 to 10 rows each, with and
without a description that is made from the class's name alone. All 77 classes may be answered; the test rows of the
held-back and of the old classes are scored apart. Repeated for several choices of the eleven, published order first.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import learning_data, record
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.descriptions import anchor_texts
from perennial.continual.learning.encoder import PACKAGED_MINILM, Encoder
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.kernel_lda import Discriminant, KernelLda

__all__ = ["main", "sentence_of"]

HELD_BACK = 11
SHOTS = (0, 1, 2, 5, 10)
GAMMA, SHRINKAGE = 0.5, 3e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One choice of the held-back classes, and the head that knows the others."""

    data: learning_data.Frozen
    held: tuple[int, ...]
    old: KernelLda
    anchors: dict[str, NDArray[np.float32]]  # label -> (texts, d)

    @classmethod
    def of(cls, data: learning_data.Frozen, held: Sequence[int], anchors: dict[str, NDArray[np.float32]]) -> "Task":
        """The task with its old classes learnt."""
        features = FourierFeatures.make(dimension=data.x_train.shape[1], features=3000, gamma=GAMMA, seed=0)
        head, known = KernelLda(features), ~np.isin(data.y_train, held)
        head.add(ClassRows(X=data.x_train[known], labels=[data.labels[place] for place in data.y_train[known]]))
        return cls(data=data, held=tuple(held), old=head, anchors=anchors)

    def accuracy(self, *, shots: int | None, described: bool, seed: int) -> tuple[float, float]:
        """Percent right on the held-back and on the old classes, all classes allowed; None shots are all rows."""
        head, rng = self.old.narrowed(self.old.features.size), np.random.default_rng([seed, *self.held])
        for place in self.held:
            rows = np.flatnonzero(self.data.y_train == place)
            chosen = rows if shots is None else rng.choice(rows, size=shots, replace=False)
            head.add(ClassRows(X=self.data.x_train[chosen], labels=[self.data.labels[place]] * len(chosen)))
            if described:
                label = self.data.labels[place]
                head.anchor(label, ClassRows(X=self.anchors[label], labels=[label] * len(self.anchors[label])))
        solved = head.solve(Discriminant(shrinkage=SHRINKAGE))
        answers = np.array(solved.labels)[solved.logits(self.data.x_test).argmax(axis=1)]
        right = answers == np.array(self.data.labels)[self.data.y_test]
        late = np.isin(self.data.y_test, self.held)
        return 100.0 * float(right[late].mean()), 100.0 * float(right[~late].mean())


def sentence_of(label: str) -> str:
    """What a description says when nobody knows more than the class's name.

    >>> sentence_of("lost_or_stolen_card")
    'The customer asks about lost or stolen card.'
    """
    return f"The customer asks about {label.replace('_', ' ').lower()}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the table and write `few_shot.json`."""
    parser = argparse.ArgumentParser(prog="benchmarks.few_shot", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.csv, test.csv, categories.json")
    parser.add_argument("--out", type=Path, default=record.OUT, help="where the result and the cache go")
    parser.add_argument("--choices", type=int, default=5, help="how many choices of the held-back classes")
    parser.add_argument("--draws", type=int, default=2, help="draws of the first rows, for each choice")
    parser.add_argument("--quick", action="store_true", help="one choice, one draw")
    options = parser.parse_args(arguments)
    choices, draws = (1, 1) if options.quick else (options.choices, options.draws)
    data = learning_data.load(options.data, options.out / "cache")
    anchors = _anchors(data.labels)
    runs = []
    for number, order in enumerate(learning_data.class_orders(len(data.labels), choices)):
        runs += _runs(Task.of(data, order[-HELD_BACK:], anchors), number, draws)
        print(f"choice {number + 1} of {choices} done", file=sys.stderr)
    rows = _means(runs)
    print(_table(rows))
    results = {"held_back": HELD_BACK, "embeddings": data.digest, "runs": runs, "means": rows}
    print(record.write("few_shot-quick" if options.quick else "few_shot", results, options.out), file=sys.stderr)
    return 0


def _anchors(labels: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    encoder = Encoder.load(PACKAGED_MINILM, threads=2)
    texts = anchor_texts({label: sentence_of(label) for label in labels})
    return {label: encoder.embed(several) for label, several in texts.items()}


def _runs(task: Task, choice: int, draws: int) -> list[dict[str, Any]]:
    cells = [(shots, described) for described in (False, True) for shots in SHOTS] + [(None, False)]
    found = []
    for shots, described in cells:
        for draw in range(draws if shots else 1):
            held, old = task.accuracy(shots=shots, described=described, seed=draw)
            facts = {"choice": choice, "draw": draw, "shots": shots, "described": described}
            found.append(facts | {"held_back_accuracy": held, "old_accuracy": old})
    return found


def _means(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a cell: means over choices and draws, and the spread of the choices' means."""
    cells: dict[tuple[bool, int | None], list[dict[str, Any]]] = {}
    for run in runs:
        cells.setdefault((run["described"], run["shots"]), []).append(run)
    rows = []
    for (described, shots), several in cells.items():
        by_choice = [
            float(np.mean([run["held_back_accuracy"] for run in several if run["choice"] == choice]))
            for choice in sorted({run["choice"] for run in several})
        ]
        rows.append(
            {
                "described": described,
                "shots": shots,
                "held_back_accuracy": float(np.mean(by_choice)),
                "held_back_lowest": min(by_choice),
                "held_back_highest": max(by_choice),
                "old_accuracy": float(np.mean([run["old_accuracy"] for run in several])),
            }
        )
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["rows a class  described  held-back classes        old classes"]
    for row in rows:
        shots = "all" if row["shots"] is None else row["shots"]
        spread = f"({row['held_back_lowest']:.1f} to {row['held_back_highest']:.1f})"
        lines.append(
            f"{shots!s:12}  {'yes' if row['described'] else 'no':9}  "
            f"{row['held_back_accuracy']:5.1f} {spread:18}  {row['old_accuracy']:.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
