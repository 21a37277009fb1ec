"""What a fine-tuned encoder loses and gains when it is made smaller: size, rows a second and accuracy of each step.

    python -m benchmarks.compression --data FOLDER [--data FOLDER ...] [--out FOLDER] [--rows N]

Each folder is a labelled set of `benchmarks.labelled_sets`. MiniLM is tuned with a linear head, then made smaller in
the usual steps. Each model becomes an ONNX Runtime engine in INT8 through the ordinary export, parity gate included,
and the uncompressed one in FP32 too. All engines take turns on test rows in batches of 1, 8 and 32. TF-IDF with
logistic regression on the same rows is the baseline.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.labelled_learners import tfidf
from benchmarks.labelled_sets import SETS, steps_of
from perennial.continual.errors import ParityFailed
from perennial.continual.intervals import bonett_price
from perennial.continual.learning.compression import CompressionSpec, compress, layers_and_width, usual_steps
from perennial.continual.learning.context import Context
from perennial.continual.learning.finetune import train_slow
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.preparation import split_of
from perennial.continual.records import Example, Split
from perennial.exporters.bundle import read_manifest
from perennial.exporters.job import export_bundle
from perennial.exporters.spec import ExportSpec
from perennial.exporters.timing import rows_per_s, times_faster
from perennial.ops.serving.bundled import BundledVersion

__all__ = ["main"]

_UNCOMPRESSED = "as it is, INT8"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True, help="banking77, gold_news")
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument("--rows", type=int, default=0, help="to learn from; 0 is all")
    parser.add_argument("--epochs", type=int, default=3, help="of the tuning")
    parser.add_argument("--taught", type=int, default=8, help="epochs of each step")
    arguments = parser.parse_args()
    found = {}
    for folder in arguments.data:
        found[folder.name] = _compared(folder, arguments)
        print(f"{folder.name}: {found[folder.name]['rows']} learnt, {found[folder.name]['tested']} tested")
        for name, each in found[folder.name]["arms"].items():
            faster = "" if each.get("times_faster") is None else f"{each['times_faster']:.2f} x"
            lost = each.get("lost_points", [0.0, 0.0, 0.0])
            print(
                f"  {name:28} {each.get('megabytes', 0.0):7.1f} MB {each.get('rows_per_s', '')} {faster:8} "
                f"{100 * each['accuracy']:.2f}% ({lost[0]:+.2f} lost [{lost[1]:.2f}, {lost[2]:.2f}])"
            )
    print(record.write("compression", found, arguments.out))


def _compared(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    columns, work = SETS[folder.name], arguments.out / "work" / folder.name
    work.mkdir(parents=True, exist_ok=True)
    learnt, test = steps_of(folder, columns, arguments.rows)[-1]
    if columns.stream:  # its last lot is small
        whole = [*learnt, *test]
        learnt, test = whole[: 2 * len(whole) // 3], whole[2 * len(whole) // 3 :]
    known = {row.label for row in learnt}
    test = [row for row in test if row.label in known]
    write_rows(work / "fresh.jsonl", [row for row in learnt if split_of(row.text) is Split.TRAIN])
    write_rows(work / "held.jsonl", [row for row in learnt if split_of(row.text) is Split.HOLDOUT])
    spec = JobSpec(
        learner=LearnerName.FINETUNE,
        examples=work / "fresh.jsonl",
        holdout=work / "held.jsonl",
        encoder=columns.encoder,
        out=work / "tuned",
        cache=arguments.out / "cache",
        threads=2,
        params={"head": "linear", "epochs": arguments.epochs},
    )
    if not (spec.out / "model.json").is_file():
        train_slow(spec, Context())
    smaller = CompressionSpec(
        source=spec.out,
        rows=work / "fresh.jsonl",
        out=work / "smaller",
        steps=usual_steps(*layers_and_width(spec.out / "encoder")),
        cache=arguments.out / "cache",
        epochs=arguments.taught,
    )
    models = {_UNCOMPRESSED: spec.out} | {each.name: Path(each.folder) for each in compress(smaller, Context())}
    bundles, refused = _exported(models, spec.out, work, learnt)
    arms = _judged(bundles, test)
    labels, scores = tfidf(learnt, [row.text for row in test])
    right = [labels[place] == row.label for place, row in zip(scores.argmax(axis=1), test, strict=True)]
    arms["TF-IDF"] = {"accuracy": float(np.mean(right))}
    return {"rows": len(learnt), "tested": len(test), "arms": arms, "refused": refused}


def _exported(
    models: dict[str, Path], tuned: Path, work: Path, learnt: Sequence[Example]
) -> tuple[dict[str, Path], dict[str, str]]:
    """A bundle of each model in INT8, and of the tuned one in FP32; those that the parity gate refuses, with why."""
    asked = {"calibration": learnt, "proof": [row for row in learnt if split_of(row.text) is Split.HOLDOUT]}
    for name, rows in asked.items():
        document = {"texts": [row.text for row in rows], "labels": [row.label for row in rows]}
        (work / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    bundles, refused = {}, {}
    wanted = [("as it is, FP32", tuned, "fp32"), *((name, model, "int8") for name, model in models.items())]
    for number, (name, model, precision) in enumerate(wanted, start=1):
        out = work / "bundles" / str(number)
        if not (out / "manifest.json").is_file():
            spec = ExportSpec(
                trained_dir=model,
                out_dir=out,
                held_out=work / "proof.json",
                calibration=work / "calibration.json",
                model="bench",
                version=number,
                engine="onnxruntime",
                precision=precision,
                threads=2,
            )
            out.parent.mkdir(parents=True, exist_ok=True)
            try:
                export_bundle(spec)
            except ParityFailed as exc:
                refused[name] = str(exc)
                continue
        bundles[name] = out
    return bundles, refused


def _judged(bundles: dict[str, Path], test: Sequence[Example]) -> dict[str, dict[str, Any]]:
    """Accuracy on the test rows, and rows a second of all engines in turns."""
    versions = {name: BundledVersion.load(bundle, threads=2) for name, bundle in bundles.items()}
    texts, labels = [row.text for row in test], [row.label for row in test]
    right = {
        name: np.array([each.kept for each in version.answers(texts)], dtype=object) == np.array(labels, dtype=object)
        for name, version in versions.items()
    }
    order = np.random.default_rng(0).permutation(len(texts))
    speeds = rows_per_s(
        {name: partial(_answered, version) for name, version in versions.items()}, [texts[place] for place in order]
    )
    found = {}
    for name, bundle in bundles.items():
        before = right.get(_UNCOMPRESSED, right[name])
        lost, won = int((before & ~right[name]).sum()), int((~before & right[name]).sum())
        apart = bonett_price(lost, won, len(texts))
        manifest = read_manifest(bundle)
        found[name] = {
            "megabytes": manifest.files[manifest.engine_file].size_bytes / 2**20,
            "rows_per_s": speeds[name],
            "times_faster": times_faster(speeds[name], speeds[_UNCOMPRESSED]) if _UNCOMPRESSED in speeds else None,
            "accuracy": float(right[name].mean()),
            "lost_points": [100 * apart.mean, 100 * apart.low, 100 * apart.high],
            "agreement": manifest.parity.get("agreement"),
            "median_rows_per_s": statistics.median(speeds[name].values()),
        }
    return found


def _answered(version: BundledVersion, texts: Sequence[str]) -> object:
    return version.answers(texts)


if __name__ == "__main__":
    main()
