"""How many texts of no class are found, at a stated share of false refusals, by `KNOWN`.

    python -m benchmarks.open_set --data FOLDER [--rows 4000] [--learners ridge kernel_lda]

In scope are the intents of BANKING77: all of them, or 60, of which the other 17 are out of scope ("near"). Out of scope
are the user turns of sgd, the questions of bankfaq, tweets of stocknet and headlines of gold_news. A third scope is
made like that of CLINC150, an assistant of several domains: the 77 intents, and those of four services of sgd. Out of
scope are then requests to three other services of sgd, in the same words of the same people ("requests"), and bankfaq.
A request is the first turn of a dialogue that has the intent: later ones ("yes, please") are of no service. The models
are the fast learner's jobs as `perennial serve` runs them: the limit is fitted on the tenth of the rows that is held
out.
"""

import argparse
import csv
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import record
from benchmarks.labelled_learners import Bench
from benchmarks.labelled_sets import SETS, steps_of
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.open_set import OpenSet
from perennial.continual.learning.trained import read_head
from perennial.continual.preparation import clean, deduplicate
from perennial.continual.records import Example

__all__ = ["main"]

_OTHERS = {
    "sgd": ("sgd_test_pairs.csv", "user"),
    "bankfaq": ("bankfaq.csv", "question"),
    "stocknet": ("tweets_2015.csv", "text"),
    "gold_news": ("gold_news.csv", "text"),
}
_SERVICES_LEFT_OUT = ("Music", "RentalCars", "RideSharing")
_MOST, _LEFT_OUT, _SEED = 1_500, 17, 3
_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """What a model learns, what it is asked about that it knows, and what it is asked about that it does not."""

    name: str
    learnt: Sequence[Example]
    inside: Sequence[str]
    outside: Mapping[str, Sequence[str]]


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
    bench = Bench(SETS["banking77"].encoder, options.out / "cache")
    for scope in _scopes(options):
        with TemporaryDirectory() as work:
            _, folder = bench.closed_form(learner, scope.learnt, scope.inside, Path(work), None)
            yield {
                "scope": scope.name,
                "learner": learner.value,
                "classes": len({row.label for row in scope.learnt}),
                "rows": len(scope.learnt),
                "asked": len(scope.inside),
                "false_refusals": _refused(bench, folder, scope.inside),
                **{name: _refused(bench, folder, texts) for name, texts in scope.outside.items()},
            }


def _scopes(options: argparse.Namespace) -> Iterator[_Scope]:
    [(rows, asked)] = steps_of(options.data / "banking77", SETS["banking77"], options.rows)
    intents = sorted({row.label for row in rows})
    random.Random(_SEED).shuffle(intents)
    others = {name: _texts(options.data / name / file, column) for name, (file, column) in _OTHERS.items()}
    for left_out in (frozenset[str](), frozenset(intents[:_LEFT_OUT])):
        near = [row.text for row in asked if row.label in left_out]
        yield _Scope(
            name="a bank",
            learnt=[row for row in rows if row.label not in left_out],
            inside=[row.text for row in asked if row.label not in left_out],
            outside={**others, **({"near": near} if near else {})},
        )
    known, tested, strange = _requests(options.data / "sgd" / _OTHERS["sgd"][0])
    yield _Scope(
        name="several domains",
        learnt=[*rows, *known],
        inside=[*(row.text for row in asked), *tested],
        outside={"requests": strange, "bankfaq": others["bankfaq"]},
    )


def _requests(path: Path) -> tuple[list[Example], list[str], list[str]]:
    """Requests to sgd's services: those that are learnt, those of other dialogues, and those to services left out."""
    with path.open(encoding="utf-8", newline="") as file:
        turns = [row for row in csv.DictReader(file) if row["intent"] != "NONE" and clean(row["user"])]
    first: dict[tuple[str, str], dict[str, str]] = {}
    for turn in turns:
        first.setdefault((turn["dialogue"], turn["intent"]), turn)
    dialogues = sorted({dialogue for dialogue, _ in first})
    tested = set(random.Random(_SEED).sample(dialogues, len(dialogues) // 3))
    known, asked, strange = list[Example](), set[str](), set[str]()
    for (dialogue, intent), turn in first.items():
        text = clean(turn["user"])
        if turn["service"].startswith(_SERVICES_LEFT_OUT):
            strange.add(text)
        elif dialogue in tested:
            asked.add(text)
        else:
            known.append(Example(text=text, label=intent, at=_AT))
    learnt = list(deduplicate(known).examples)
    taken = {row.text for row in learnt}
    return learnt, sorted(asked - taken), sorted(strange - taken - asked)


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
