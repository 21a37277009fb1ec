"""Financial opinion: sentiment that is learnt on as labels come, and events among headlines.

    python -m benchmarks.opinion --data gold_news --data twitter_fin --data stocknet [--no-network]

Sentiment by the product's own training: a stream of headlines whose labels come a day late, beside a frozen twin, and
tweets beside TF-IDF and a fine-tuned network. Events: see `benchmarks.opinion_events`.
"""

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.labelled_learners import Bench, tfidf
from benchmarks.labelled_sets import FIRST, SETS, STEP, STREAM, steps_of
from benchmarks.opinion_events import FALSE_ALARM, NewsItems, known_dates, measure_events, symbol_days
from perennial.continual.intervals import mean_interval, paired_bootstrap
from perennial.continual.learning.answering import answer
from perennial.continual.learning.card import ENCODER_INSIDE
from perennial.continual.learning.context import Context
from perennial.continual.learning.learners import train_model
from perennial.continual.learning.metrics import accuracy, macro_f1
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.preparation import clean, deduplicate, split_of
from perennial.continual.records import Example, Split

__all__ = ["main"]

_OLD_UNTIL = date(2015, 9, 1)
_FOLDERS = ("gold_news", "twitter_fin", "stocknet")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the folders allow, print the table and write `opinion.json`."""
    parser = argparse.ArgumentParser(prog="benchmarks.opinion", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True, help=f"a folder named {_FOLDERS}; repeat")
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument("--shuffles", type=int, default=6, help="to calibrate on, and as many others to test on")
    parser.add_argument("--trials", type=int, default=8, help="of each old event")
    parser.add_argument("--no-network", action="store_true", help="without the fine-tuned network, which takes minutes")
    options = parser.parse_args(arguments)
    folders = {folder.resolve().name: folder for folder in options.data}
    if unknown := sorted(set(folders) - set(_FOLDERS)):
        parser.error(f"{unknown} is none of the folders {_FOLDERS}")
    bench = Bench("packaged:minilm", options.out / "cache")
    results: dict[str, Any] = {"recipes": []}
    if "gold_news" in folders:
        _events(folders["gold_news"], bench, options, results)
        _stream(folders["gold_news"], bench, results, network=not options.no_network)
    if "stocknet" in folders:
        results["stocknet"] = symbol_days(folders["stocknet"], bench.embed)
    if "twitter_fin" in folders:
        _tweets(folders["twitter_fin"], bench, results, network=not options.no_network)
    print(_table(results))
    print(record.write("opinion", results, options.out), file=sys.stderr)
    return 0


def _events(folder: Path, bench: Bench, options: argparse.Namespace, results: dict[str, Any]) -> None:
    started = time.perf_counter()
    news = NewsItems.read(folder / "gold_news.csv", bench.embed, since=_OLD_UNTIL)
    found = measure_events(news, shuffles=options.shuffles, trials=options.trials)
    results["events"] = found | {"real_stream": known_dates(news, found["limit"])}
    alarms = {"false_alarms_in_2000": found["false_alarms_in_2000"], "allowed": 2_000 * FALSE_ALARM}
    for size in found["found"]:
        value, interval = size["found_within_four"], size["found_within_four_interval"]
        name = f"opinion: events of {size['headlines']} headlines"
        results["recipes"].append(record.recipe(name, "found within four", value, interval, alarms))
        results["recipes"].append(record.recipe(name, "found", size["found"], size["found_interval"], alarms))
    print(f"events: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


def _dated(path: Path) -> list[tuple[date, Example]]:
    """Different headlines in the order of time."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["date"])
    at = datetime(2026, 1, 1, tzinfo=UTC)
    found = [Example(text=clean(row["text"]), label=row["label"], at=at) for row in rows if clean(row["text"])]
    days = {example.text: date.fromisoformat(row["date"]) for example, row in zip(found[::-1], rows[::-1], strict=True)}
    return [(days[example.text], example) for example in deduplicate(found).examples][: FIRST + STREAM]


def _stream(folder: Path, bench: Bench, results: dict[str, Any], *, network: bool) -> None:
    """After every 500 answers the model learns the labels of all days before the one that is answered next.

    `fused` is the network that is tuned on from version to version, all older rows replayed, with words beside it.
    """
    dated = _dated(folder / "gold_news.csv")
    right: dict[str, list[float]] = {"updated": [], "frozen": [], "tfidf_updated": []}
    if network:
        right["fused"] = []
    lots = []
    with TemporaryDirectory() as work:
        before: Path | None = None
        first: Path | None = None
        tuned: Path | None = None
        taught: list[Example] = []
        for start in range(FIRST, len(dated), STEP):
            asked = [example for _, example in dated[start : start + STEP]]
            learnt = [example for day, example in dated[:start] if day < dated[start][0]]
            texts, truth = [example.text for example in asked], [example.label for example in asked]
            (labels, chances), before = bench.closed_form(LearnerName.AUTO, learnt, texts, Path(work), before)
            first = first or before
            frozen_labels, frozen = answer(first, texts, cache=bench.cache)
            tfidf_labels, baseline = tfidf(learnt, texts, machine=True)
            given = {
                "updated": [labels[place] for place in chances.argmax(axis=1)],
                "frozen": [frozen_labels[place] for place in frozen.argmax(axis=1)],
                "tfidf_updated": [tfidf_labels[place] for place in baseline.argmax(axis=1)],
            }
            if network:
                tuned = _tuned_on(tuned, taught, learnt[len(taught) :], bench, Path(work))
                labels, chances = answer(tuned, texts, cache=Path(work) / "cache")
                given["fused"] = [labels[place] for place in chances.argmax(axis=1)]
                taught = learnt
            for arm, answers in given.items():
                right[arm] += [float(one == other) for one, other in zip(answers, truth, strict=True)]
            lots.append({arm: 100 * accuracy(answers, truth) for arm, answers in given.items()})
            print(f"stream {start}: {lots[-1]}", file=sys.stderr, flush=True)
    rng = np.random.default_rng(0)
    means = {arm: mean_interval(np.array(values), rng) for arm, values in right.items()}
    ahead = paired_bootstrap(np.array(right["updated"]), np.array(right["frozen"]), rng)
    results["stream"] = {
        "rows": len(right["updated"]),
        "lots": lots,
        "accuracy": {arm: 100 * interval.mean for arm, interval in means.items()},
        "ahead_of_frozen": [100 * ahead.mean, 100 * ahead.low, 100 * ahead.high],
    }
    baselines = {arm: 100 * means[arm].mean for arm in ("frozen", "tfidf_updated")}
    name = "opinion: gold_news stream, labels a day late"
    for arm, told in (("updated", name), ("fused", f"{name}, tuned and words")):
        if arm in means:
            mean = means[arm]
            interval = [100 * mean.low, 100 * mean.high]
            results["recipes"].append(record.recipe(told, "accuracy", 100 * mean.mean, interval, baselines))


def _tuned_on(
    before: Path | None, taught: Sequence[Example], fresh: Sequence[Example], bench: Bench, work: Path
) -> Path:
    """The version after `before`, which was taught the older rows: what docs/learning.md recommends for headlines."""
    out = work / f"fused-{len(taught) + len(fresh)}"
    for name, rows, split in (
        ("fresh", fresh, Split.TRAIN),
        ("replay", taught, Split.TRAIN),
        ("held", (*taught, *fresh), Split.HOLDOUT),
    ):
        write_rows(work / f"fused-{name}.jsonl", [row for row in rows if split_of(row.text) is split])
    spec = JobSpec(
        learner=LearnerName.FINETUNE,
        examples=work / "fused-fresh.jsonl",
        replay=work / "fused-replay.jsonl",
        holdout=work / "fused-held.jsonl",
        previous=before,
        encoder=bench.encoder if before is None else str(before / ENCODER_INSIDE),
        out=out,
        max_length=128,
        params={"head": "fused", "learning_rate": 1e-4},
    )
    train_model(spec, Context())
    return out


def _tweets(folder: Path, bench: Bench, results: dict[str, Any], *, network: bool) -> None:
    ((rows, asked),) = steps_of(folder, SETS["twitter_fin"])
    texts, truth = [row.text for row in asked], [row.label for row in asked]
    given: dict[str, list[str]] = {}
    with TemporaryDirectory() as work:
        (labels, chances), _ = bench.closed_form(LearnerName.AUTO, rows, texts, Path(work), None)
        given["perennial"] = [labels[place] for place in chances.argmax(axis=1)]
        labels, chances = tfidf(rows, texts)
        given["tfidf"] = [labels[place] for place in chances.argmax(axis=1)]
        if network:
            given["fine_tuned"] = _fine_tuned(rows, texts, bench, Path(work))
    figures = {
        arm: {"accuracy": 100 * accuracy(answers, truth), "macro_f1": macro_f1(answers, truth)}
        for arm, answers in given.items()
    }
    results["twitter_fin"] = figures | {"rows": len(rows), "asked": len(asked)}
    low, high = _f1_interval(given["perennial"], truth)
    baseline = {arm: figures[arm]["macro_f1"] for arm in given if arm != "perennial"}
    results["recipes"].append(
        record.recipe("opinion: twitter_fin", "macro F1", figures["perennial"]["macro_f1"], [low, high], baseline)
    )


def _fine_tuned(rows: Sequence[Example], texts: Sequence[str], bench: Bench, work: Path) -> list[str]:
    """The product's slow learner, all layers."""
    write_rows(work / "slow.jsonl", [row for row in rows if split_of(row.text) is Split.TRAIN])
    write_rows(work / "slow-held.jsonl", [row for row in rows if split_of(row.text) is Split.HOLDOUT])
    spec = JobSpec(
        learner=LearnerName.FINETUNE,
        examples=work / "slow.jsonl",
        holdout=work / "slow-held.jsonl",
        out=work / "slow",
        cache=work / "cache",
        max_length=64,
        params={"epochs": 2},
    )
    train_model(spec, Context())
    labels, logits = answer(work / "slow", list(texts), cache=work / "cache")
    return [labels[place] for place in logits.argmax(axis=1)]


def _f1_interval(given: Sequence[str], truth: Sequence[str], resamples: int = 500) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    answers, right = np.array(given), np.array(truth)
    drawn = [rng.integers(len(right), size=len(right)) for _ in range(resamples)]
    figures = [macro_f1(answers[rows].tolist(), right[rows].tolist()) for rows in drawn]
    low, high = np.percentile(figures, [2.5, 97.5])
    return float(low), float(high)


def _table(results: dict[str, Any]) -> str:
    lines = [
        f"{line['name']:48} {line['metric']:18} {line['value']:7.3f} "
        f"[{line['interval'][0]:.3f}, {line['interval'][1]:.3f}]  beside {line['baseline']}"
        for line in results["recipes"]
    ]
    for day, known in results.get("events", {}).get("real_stream", {}).get("known", {}).items():
        for event in known["events"]:
            words = ", ".join(event["words"])
            lines.append(
                f"{day} {known['what']}: {event['date']} {words} ({event['score']:.1f}) {event['headlines'][-1]}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
