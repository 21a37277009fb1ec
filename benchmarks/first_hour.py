"""What a newcomer's first hour gives on sets of several languages, beside what anybody would try first.

    python -m benchmarks.first_hour --data FOLDER [--sets banking77 gold_news ...] [--rows 4000]

Each set is a folder of FOLDER. `perennial init` is given the training rows in a new workspace, with the default
settings, which choose the encoder by the rows, and its bundle answers the test rows. The baselines learn all training
rows, the held-out tenth among them: tf-idf of words and letters with the better of logistic regression and a linear
machine, as the test rows tell; and logistic regression on the embeddings of the same encoder.
gold_news is a stream in time order: 585 rows first, then labels after each 500; each model answers the next 500. Its
later versions are the default learner's jobs, one from the other, without engines.

Any other folder with `train.csv` and `test.csv`, of columns `text` and `label`, may be named too.

Each finished part is kept in OUT/first_hour-parts, so that a run that was cut off goes on where it was.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.kept_parts import KeptParts
from benchmarks.labelled_learners import Bench, Scores, tfidf
from benchmarks.labelled_sets import SETS, Columns, Split, columns_of, steps_of
from perennial.continual.arrays import softmax
from perennial.continual.learning.metrics import accuracy, expected_calibration_error, macro_f1
from perennial.continual.learning.names import DEFAULT_LEARNER
from perennial.continual.records import Example
from perennial.exporters.text_classification.classifier import BundleClassifier

__all__ = ["main"]

_MODEL = "first"
_SOURCES = (
    "perennial/continual/learning/*.py",
    "perennial/ops/commands/first_version.py",
    "benchmarks/first_hour.py",
    "benchmarks/labelled_*.py",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sets, print a line for each and write `first_hour.json`."""
    parser = argparse.ArgumentParser(prog="first_hour", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="folders under --data")
    parser.add_argument("--rows", type=int, default=4000, help="training rows at most; 0 is all. BANKING77 has all")
    parser.add_argument("--out", type=Path, default=record.OUT)
    options = parser.parse_args(arguments)
    sets: list[dict[str, Any]] = []
    for name in options.sets:
        columns, folder = columns_of(name), options.data / name
        files = [folder / file for file in (columns.train, columns.test) if file is not None]
        parts = KeptParts(options.out / "first_hour-parts", *files, sources=_SOURCES)
        steps = steps_of(folder, columns, 0 if name == "banking77" else options.rows)
        sets.append(_measured(name, columns, steps, options.out / "cache", parts))
        print(json.dumps(sets[-1]), flush=True)
    document = {"learner": DEFAULT_LEARNER.value, "sets": sets, "mean": _over_sets(sets)}
    print(json.dumps(document["mean"]))
    record.write("first_hour", document, options.out)
    return 0


def _measured(name: str, columns: Columns, steps: Sequence[Split], cache: Path, parts: KeptParts) -> dict[str, Any]:
    truth = [row.label for _, asked in steps for row in asked]
    asked = {"set": name, "rows": len(steps[-1][0])}

    def part(arm: str, made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = parts.part(f"{name}-{arm}", {**asked, "arm": arm}, made)
        return found

    ours = part("ours", lambda: _ours(steps, cache, truth))
    baselines = {
        "words": part("words", lambda: _answers([tfidf(rows, _texts(lot)) for rows, lot in steps], truth)),
        "words_by_machine": part(
            "words_by_machine", lambda: _answers([tfidf(rows, _texts(lot), machine=True) for rows, lot in steps], truth)
        ),
        "frozen": part("frozen", lambda: _frozen(steps, ours["encoder"], cache, truth)),
    }
    better = max(baselines, key=lambda arm: float(baselines[arm]["accuracy"]))
    ahead = 100 * (np.array(ours["right"], dtype=np.float64) - np.array(baselines[better]["right"], dtype=np.float64))
    return {
        "name": name,
        "rows": len(steps[0][0]),
        "rows_in_the_end": len(steps[-1][0]),
        "asked": len(truth),
        "classes": len({row.label for row in steps[-1][0]}),
        "language": columns.language,
        **{figure: value for figure, value in ours.items() if figure not in {"right", "sure"}},
        "tfidf_accuracy": max(baselines[arm]["accuracy"] for arm in ("words", "words_by_machine")),
        "frozen_lr_accuracy": baselines["frozen"]["accuracy"],
        "better_baseline": better,
        "ahead_of_it": round(float(ahead.mean()), 2),
        "standard_error": round(float(ahead.std() / np.sqrt(len(ahead))), 2),
        "ece_if_calibrated": _ece_if_calibrated(ours["sure"]),
    }


def _over_sets(sets: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over the sets, and how far ours is ahead of the better baseline: of each set, and of their means."""
    ours, words, frozen = (
        float(np.mean([each[name] for each in sets])) for name in ("accuracy", "tfidf_accuracy", "frozen_lr_accuracy")
    )
    return {
        "accuracy": round(ours, 2),
        "tfidf_accuracy": round(words, 2),
        "frozen_lr_accuracy": round(frozen, 2),
        "ahead_of_each_better_one": round(float(np.mean([each["ahead_of_it"] for each in sets])), 2),
        "ahead_of_the_better_mean": round(ours - max(words, frozen), 2),
    }


def _ours(steps: Sequence[Split], cache: Path, truth: Sequence[str]) -> dict[str, Any]:
    with TemporaryDirectory() as work:
        told, init_s = _begun(Path(work), steps[0][0])
        bundle, bench = Path(work) / told["bundle"], Bench(told["encoder"], cache)
        scores = list(_answered(bench, bundle, steps, Path(work)))
    return {"encoder": bench.encoder, "init_s": round(init_s, 1), **_answers(scores, truth)}


def _frozen(steps: Sequence[Split], encoder: str, cache: Path, truth: Sequence[str]) -> dict[str, Any]:
    bench = Bench(encoder, cache)
    return _answers([bench.frozen(rows, _texts(asked)) for rows, asked in steps], truth)


def _begun(folder: Path, rows: Sequence[Example]) -> tuple[dict[str, Any], float]:
    """What `init` told of the first version, and the seconds that it took."""
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("text", "label"), *((row.text, row.label) for row in rows)])
    command = [sys.executable, "-m", "perennial.ops.cli.main", "init", _MODEL, "--data", "rows.csv"]
    path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    started = time.perf_counter()
    ran = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        raise RuntimeError(f"`perennial init` ended with {ran.returncode}: {ran.stderr[-2000:]}")
    return json.loads(ran.stdout), time.perf_counter() - started


def _answered(bench: Bench, bundle: Path, steps: Sequence[Split], work: Path) -> Iterator[Scores]:
    """The bundle's answers to the first step's rows, then those of the learner's jobs to the later ones'."""
    version = BundleClassifier.load(bundle, threads=2)
    yield tuple(version.labels), softmax(version.predict(_texts(steps[0][1])).logits.astype(np.float64))
    before: Path = bundle
    for rows, asked in steps[1:]:
        scores, before = bench.closed_form(DEFAULT_LEARNER, rows, _texts(asked), work, before)
        yield scores


def _answers(scores: Sequence[Scores], truth: Sequence[str]) -> dict[str, Any]:
    given = [labels[place] for labels, chances in scores for place in chances.argmax(axis=1)]
    sure = np.concatenate([chances.max(axis=1) for _, chances in scores])
    right = np.array(given) == np.array(truth)
    return {
        "accuracy": round(100 * accuracy(given, truth), 2),
        "macro_f1": round(macro_f1(given, truth), 4),
        "ece": round(float(expected_calibration_error(sure, right)), 4),
        "right": right.tolist(),
        "sure": sure.tolist(),
    }


def _ece_if_calibrated(sure: Sequence[float], draws: int = 500) -> float:
    """The mean calibration error that these confidences would show if each were the chance of being right."""
    rng, chances = np.random.default_rng(0), np.array(sure)
    drawn = (expected_calibration_error(chances, rng.random(len(chances)) < chances) for _ in range(draws))
    return round(float(np.mean(list(drawn))), 4)


def _texts(rows: Sequence[Example]) -> list[str]:
    return [row.text for row in rows]


if __name__ == "__main__":
    sys.exit(main())
