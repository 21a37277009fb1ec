"""What a newcomer's first hour gives on sets of several languages, beside what anybody would try first.

    python -m benchmarks.first_hour --data FOLDER [--sets banking77 gold_news ...] [--rows 4000]

Each set is a folder of FOLDER. `perennial init` is given the training rows in a new workspace, with the default
settings, which choose the encoder by the rows, and its bundle answers the test rows. The baselines learn all training
rows, the held-out tenth among them: tf-idf of words and letters with the better of logistic regression and a linear
machine, as the test rows tell; and logistic regression on the embeddings of the same encoder.
gold_news is a stream in time order: 585 rows first, then labels after each 500; each model answers the next 500. Its
later versions are the default learner's jobs, one from the other, without engines.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.labelled_learners import Bench, Scores, tfidf
from benchmarks.labelled_sets import SETS, Columns, Split, steps_of
from perennial.continual.arrays import softmax
from perennial.continual.learning.metrics import accuracy, expected_calibration_error, macro_f1
from perennial.continual.learning.names import DEFAULT_LEARNER
from perennial.continual.records import Example
from perennial.exporters.text_classification.classifier import BundleClassifier

__all__ = ["main"]

_MODEL = "first"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sets, print a line for each and write `first_hour.json`."""
    parser = argparse.ArgumentParser(prog="first_hour", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--rows", type=int, default=4000, help="training rows at most; 0 is all. BANKING77 has all")
    parser.add_argument("--out", type=Path, default=record.OUT)
    options = parser.parse_args(arguments)
    sets: list[dict[str, Any]] = []
    for name in options.sets:
        steps = steps_of(options.data / name, SETS[name], 0 if name == "banking77" else options.rows)
        sets.append(_measured(name, SETS[name], steps, options.out / "cache"))
        print(json.dumps(sets[-1]), flush=True)
    record.write("first_hour", {"learner": DEFAULT_LEARNER.value, "sets": sets}, options.out)
    return 0


def _measured(name: str, columns: Columns, steps: Sequence[Split], cache: Path) -> dict[str, Any]:
    truth = [row.label for _, asked in steps for row in asked]
    with TemporaryDirectory() as work:
        told, init_s = _begun(Path(work), steps[0][0])
        bundle, bench = Path(work) / told["bundle"], Bench(told["encoder"], cache)
        ours = list(_answered(bench, bundle, steps, Path(work)))
    frozen = [bench.frozen(rows, _texts(asked)) for rows, asked in steps]
    baselines = [
        _figures([tfidf(rows, _texts(asked), machine=machine) for rows, asked in steps], truth)
        for machine in (False, True)
    ]
    return {
        "name": name,
        "rows": len(steps[0][0]),
        "rows_in_the_end": len(steps[-1][0]),
        "asked": len(truth),
        "classes": len({row.label for row in steps[-1][0]}),
        "language": columns.language,
        "encoder": bench.encoder,
        **_figures(ours, truth),
        "tfidf_accuracy": max(baseline["accuracy"] for baseline in baselines),
        "frozen_lr_accuracy": _figures(frozen, truth)["accuracy"],
        "init_s": round(init_s, 1),
    }


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


def _figures(scores: Sequence[Scores], truth: Sequence[str]) -> dict[str, float]:
    given = [labels[place] for labels, chances in scores for place in chances.argmax(axis=1)]
    sure = np.concatenate([chances.max(axis=1) for _, chances in scores])
    right = np.array(given) == np.array(truth)
    return {
        "accuracy": round(100 * accuracy(given, truth), 2),
        "macro_f1": round(macro_f1(given, truth), 4),
        "ece": round(float(expected_calibration_error(sure, right)), 4),
    }


def _texts(rows: Sequence[Example]) -> list[str]:
    return [row.text for row in rows]


if __name__ == "__main__":
    sys.exit(main())
