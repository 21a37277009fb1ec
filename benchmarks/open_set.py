"""How many texts of no class are found, at a stated share of false refusals, by `KNOWN`.

    python -m benchmarks.open_set --data FOLDER [--rows 4000] [--learners ridge kernel_lda]

In scope are the intents of BANKING77: all of them, or 60, of which the other 17 are out of scope ("near"). Out of scope
are the user turns of sgd, the questions of bankfaq, tweets of stocknet and headlines of gold_news. The models are the
fast learner's jobs as `perennial serve` runs them: the limit is fitted on the tenth of the rows that is held out.
"""

import argparse
import csv
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import record
from benchmarks.labelled_learners import Bench
from benchmarks.labelled_sets import SETS, steps_of
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.open_set import OpenSet
from perennial.continual.learning.trained import read_head
from perennial.continual.preparation import clean

__all__ = ["main"]

_OTHERS = {
    "sgd": ("sgd_test_pairs.csv", "user"),
    "bankfaq": ("bankfaq.csv", "question"),
    "stocknet": ("tweets_2015.csv", "text"),
    "gold_news": ("gold_news.csv", "text"),
}
_MOST, _LEFT_OUT, _SEED = 1_500, 17, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both scopes by each learner, print a line each and write `open_set.json`."""
    parser = argparse.ArgumentParser(prog="open_set", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=4_000, help="training rows at most; 0 is all")
    parser.add_argument("--learners", nargs="+", type=LearnerName, default=[LearnerName.RIDGE, LearnerName.KERNEL_LDA])
    parser.add_argument("--out", type=Path, default=record.OUT)
    options = parser.parse_args(arguments)
    found = []
    for learner in options.learners:
        for line in _measured(learner, options):
            found.append(line)
            print(line, flush=True)
    record.write("open_set", {"runs": found}, options.out)
    return 0


def _measured(learner: LearnerName, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    columns = SETS["banking77"]
    bench = Bench(columns.encoder, options.out / "cache")
    [(rows, asked)] = steps_of(options.data / "banking77", columns, options.rows)
    intents = sorted({row.label for row in rows})
    random.Random(_SEED).shuffle(intents)
    others = {name: _texts(options.data / name / file, column) for name, (file, column) in _OTHERS.items()}
    for left_out in (frozenset[str](), frozenset(intents[:_LEFT_OUT])):
        near = [row.text for row in asked if row.label in left_out]
        inside = [row.text for row in asked if row.label not in left_out]
        with TemporaryDirectory() as work:
            learnt = [row for row in rows if row.label not in left_out]
            _, folder = bench.closed_form(learner, learnt, inside, Path(work), None)
            outside: Mapping[str, Sequence[str]] = {**others, **({"near": near} if near else {})}
            yield {
                "learner": learner.value,
                "classes": len(intents) - len(left_out),
                "rows": len(learnt),
                "false_refusals": _refused(bench, folder, inside),
                **{name: _refused(bench, folder, texts) for name, texts in outside.items()},
            }


def _refused(bench: Bench, folder: Path, texts: Sequence[str]) -> float:
    """The share of texts that a trained model takes for none of its classes."""
    open_set = OpenSet.read(folder)
    if open_set is None:
        raise SystemExit(f"{folder} has no limit; give more rows")
    X = bench.embed(texts)
    known = open_set.known(replace(read_head(folder), link=None).logits(X, texts), X)
    return round(float(1.0 - known.mean()), 4)


def _texts(path: Path, column: str) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        texts = sorted({clean(row[column]) for row in csv.DictReader(file)} - {""})
    return sorted(random.Random(_SEED).sample(texts, min(_MOST, len(texts))))


if __name__ == "__main__":
    sys.exit(main())
