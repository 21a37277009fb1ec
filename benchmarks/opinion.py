"""Financial opinion: sentiment that is learnt on as labels come, and events among headlines.

    python -m benchmarks.opinion --data gold_news --data twitter_fin --data stocknet [--no-network]

Each finished part is kept in `benchmarks/out/opinion-parts`: a run that was cut off goes on where it was.

Sentiment by the product's own training: a stream of headlines whose labels come a day late, and tweets beside TF-IDF
and a fine-tuned network. The stream is answered by versions that are learnt by the recipe's own settings: its first
learner, then its learner. Beside them stand the first version, frozen, and the closed form updated as often. Events:
see `benchmarks.opinion_events`.
"""

import argparse
import csv
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import record
from benchmarks.kept_parts import KeptParts
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
from perennial.ops.recipes import recipe_named
from perennial.ops.settings import LearningSettings, ModelSettings

__all__ = ["main"]

_OLD_UNTIL = date(2015, 9, 1)
_FOLDERS = ("gold_news", "twitter_fin", "stocknet")
_OF_TWEETS = {"epochs": 1, "head": "fused"}
_SOURCES = (
    "perennial/continual/events/*.py",
    "perennial/continual/learning/*.py",
    "perennial/ops/recipes/opinion.py",
    "benchmarks/opinion*.py",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the folders allow, print the table and write `opinion.json`."""
    parser = argparse.ArgumentParser(prog="benchmarks.opinion", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True, help=f"a folder named {_FOLDERS}; repeat")
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument("--shuffles", type=int, default=6, help="to calibrate on, and as many others to test on")
    parser.add_argument("--trials", type=int, default=8, help="of each old event")
    parser.add_argument("--no-network", action="store_true", help="without the networks, which take most of the time")
    options = parser.parse_args(arguments)
    folders = {folder.resolve().name: folder for folder in options.data}
    if unknown := sorted(set(folders) - set(_FOLDERS)):
        parser.error(f"{unknown} is none of the folders {_FOLDERS}")
    run = _Run(Bench("packaged:minilm", options.out / "cache"), options.out / "opinion-parts")
    results: dict[str, Any] = {"recipes": []}
    if "gold_news" in folders:
        file = folders["gold_news"] / "gold_news.csv"
        events = run.part(
            "events",
            file,
            lambda: _events(file, run.bench, options.shuffles, options.trials),
            shuffles=options.shuffles,
            trials=options.trials,
        )
        results["events"] = events
        results["recipes"] += _event_recipes(events)
        dated = _dated(file)
        lots = run.part("stream", file, lambda: _lots(dated, run.bench))
        if not options.no_network:
            updated = _updated_lots(dated, file, run)
            lots = [{"updated": other, **lot} for lot, other in zip(lots, updated, strict=True)]
        results["stream"] = _stream(lots, results["recipes"])
    if "stocknet" in folders:
        file = folders["stocknet"] / "tweets_2015.csv"
        results["stocknet"] = run.part("stocknet", file, lambda: symbol_days(folders["stocknet"], run.bench.embed))
    if "twitter_fin" in folders:
        file = folders["twitter_fin"] / SETS["twitter_fin"].train
        rows, asked = steps_of(folders["twitter_fin"], SETS["twitter_fin"])[0]
        given = run.part("tweets", file, lambda: _tweets(rows, asked, run.bench))
        if not options.no_network:
            given["fine_tuned"] = run.part("tuned-tweets", file, lambda: _fine_tuned(rows, asked, run.bench))
        results["twitter_fin"] = _of_tweets(rows, asked, given, results["recipes"])
    print(_table(results))
    print(record.write("opinion", results, options.out), file=sys.stderr)
    return 0


class _Run:
    """The bench, and the parts that an earlier run has finished."""

    def __init__(self, bench: Bench, parts: Path) -> None:
        self.bench, self._parts = bench, parts

    def part(self, name: str, data: Path, made: Callable[[], Any], **asked: int) -> Any:
        """A part as JSON gives it back; its seconds are printed where it was made now."""

        def timed() -> Any:
            started = time.perf_counter()
            found = made()
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
            return found

        return self._kept(data).part(name, {"part": name, **asked}, timed)

    def folder(self, name: str, data: Path) -> Path:
        """Where what the parts of a chain need of each other stays until all are made."""
        return self._kept(data).folder(name)

    def _kept(self, data: Path) -> KeptParts:
        return KeptParts(self._parts, data, sources=_SOURCES)


def _events(file: Path, bench: Bench, shuffles: int, trials: int) -> dict[str, Any]:
    news = NewsItems.read(file, bench.embed, since=_OLD_UNTIL)
    found = measure_events(news, shuffles=shuffles, trials=trials)
    return found | {"real_stream": known_dates(news, found["limit"])}


def _event_recipes(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    alarms = {"false_alarms_in_2000": found["false_alarms_in_2000"], "allowed": 2_000 * FALSE_ALARM}
    recipes = []
    for size in found["found"]:
        value, interval = size["found_within_four"], size["found_within_four_interval"]
        name = f"opinion: events of {size['headlines']} headlines"
        known = {"knowing_its_word": size["knowing_its_word"]}
        recipes.append(record.recipe(name, "found within four", value, interval, alarms | known))
        recipes.append(record.recipe(name, "found", size["found"], size["found_interval"], alarms))
    return recipes


def _dated(path: Path) -> list[tuple[date, Example]]:
    """Different headlines in the order of time."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["date"])
    at = datetime(2026, 1, 1, tzinfo=UTC)
    found = [Example(text=clean(row["text"]), label=row["label"], at=at) for row in rows if clean(row["text"])]
    days = {example.text: date.fromisoformat(row["date"]) for example, row in zip(found[::-1], rows[::-1], strict=True)}
    return [(days[example.text], example) for example in deduplicate(found).examples][: FIRST + STREAM]


def _steps(dated: Sequence[tuple[date, Example]]) -> Iterator[tuple[list[Example], list[Example]]]:
    """After every 500 answers: the labels of all days before the one that is answered next, and what is answered."""
    for start in range(FIRST, len(dated), STEP):
        learnt = [example for day, example in dated[:start] if day < dated[start][0]]
        yield learnt, [example for _, example in dated[start : start + STEP]]


def _lots(dated: Sequence[tuple[date, Example]], bench: Bench) -> list[dict[str, list[bool]]]:
    """Which answers were right, by the closed form that goes on, its first version, and words fitted anew."""
    lots = []
    with TemporaryDirectory() as work:
        before: Path | None = None
        first: Path | None = None
        for learnt, asked in _steps(dated):
            texts = [example.text for example in asked]
            closed, before = bench.closed_form(LearnerName.AUTO, learnt, texts, Path(work), before)
            first = first or before
            frozen = answer(first, texts, cache=bench.cache)
            arms = {"closed_form": closed, "frozen": frozen, "tfidf_updated": tfidf(learnt, texts, machine=True)}
            lots.append({arm: _right(labels, scores, asked) for arm, (labels, scores) in arms.items()})
            _say(len(learnt), lots[-1])
    return lots


def _updated_lots(dated: Sequence[tuple[date, Example]], file: Path, run: _Run) -> list[list[bool]]:
    """The same for the versions that the recipe's settings make, each going on from the one before.

    Each lot is a part of its own: a run that was cut off goes on from the last version.
    """
    section = recipe_named("opinion").models[0].section("opinion")
    learning = ModelSettings.model_validate(tomllib.loads(section)["models"]["opinion"]).learning
    work = run.folder("updated", file)
    lots = []
    before: Path | None = None
    taught: list[Example] = []
    for number, (learnt, asked) in enumerate(_steps(dated)):
        version = work / f"version-{len(learnt)}"

        def made(
            before: Path | None = before,
            taught: Sequence[Example] = taught,
            learnt: Sequence[Example] = learnt,
            asked: Sequence[Example] = asked,
            version: Path = version,
        ) -> list[bool]:
            shutil.rmtree(version, ignore_errors=True)
            _version(learning, before, taught, learnt[len(taught) :], run.bench, version)
            labels, scores = answer(version, [example.text for example in asked], cache=work / "cache")
            return _right(labels, scores, asked)

        lots.append(run.part("updated-lot", file, made, lot=number))
        _say(len(learnt), {"updated": lots[-1]})
        before, taught = version, learnt
    shutil.rmtree(work)
    return lots


def _right(labels: Sequence[str], scores: NDArray[Any], asked: Sequence[Example]) -> list[bool]:
    best = scores.argmax(axis=1)
    return [labels[place] == example.label for place, example in zip(best, asked, strict=True)]


def _say(learnt: int, lot: Mapping[str, Sequence[bool]]) -> None:
    told = {arm: round(100 * float(np.mean(right)), 1) for arm, right in lot.items()}
    print(f"stream, {learnt} learnt: {told}", file=sys.stderr, flush=True)


def _stream(lots: Sequence[Mapping[str, Sequence[bool]]], recipes: list[dict[str, Any]]) -> dict[str, Any]:
    right = {arm: np.concatenate([np.array(lot[arm], dtype=np.float64) for lot in lots]) for arm in lots[0]}
    rng = np.random.default_rng(0)
    means = {arm: mean_interval(values, rng) for arm, values in right.items()}
    name = "opinion: gold_news stream, labels a day late"
    for arm, called in (("updated", name), ("closed_form", f"{name}, closed form")):
        if arm in means:
            mean = means[arm]
            others = {other: 100 * means[other].mean for other in means if other != arm}
            recipes.append(
                record.recipe(called, "accuracy", 100 * mean.mean, [100 * mean.low, 100 * mean.high], others)
            )
    best = "updated" if "updated" in right else "closed_form"
    ahead = paired_bootstrap(right[best], right["frozen"], rng)
    return {
        "rows": len(right["updated"]),
        "lots": [{arm: 100 * float(np.mean(values)) for arm, values in lot.items()} for lot in lots],
        "accuracy": {arm: 100 * mean.mean for arm, mean in means.items()},
        "ahead_of_frozen": [100 * ahead.mean, 100 * ahead.low, 100 * ahead.high],
    }


def _version(
    settings: LearningSettings,
    before: Path | None,
    taught: Sequence[Example],
    fresh: Sequence[Example],
    bench: Bench,
    out: Path,
) -> None:
    """The version after `before`, which was taught the older rows, as the loop makes it by these settings."""
    learning = settings.of_first_version() if before is None else settings
    work = out.parent
    for name, rows, split in (
        ("fresh", fresh, Split.TRAIN),
        ("replay", taught[-learning.replay_rows :], Split.TRAIN),
        ("held", (*taught, *fresh), Split.HOLDOUT),
    ):
        write_rows(work / f"version-{name}.jsonl", [row for row in rows if split_of(row.text) is split])
    tuned = before is not None and (before / ENCODER_INSIDE).is_dir()
    spec = JobSpec(
        learner=learning.learner,
        examples=work / "version-fresh.jsonl",
        replay=work / "version-replay.jsonl",
        holdout=work / "version-held.jsonl",
        previous=before,
        encoder=str(before / ENCODER_INSIDE) if before is not None and tuned else bench.encoder,
        out=out,
        max_length=learning.max_length,
        params=dict(learning.params),
    )
    train_model(spec, Context())


def _tweets(rows: Sequence[Example], asked: Sequence[Example], bench: Bench) -> dict[str, list[str]]:
    """What the default learner answers, and words alone."""
    texts = [row.text for row in asked]
    with TemporaryDirectory() as work:
        ours, _ = bench.closed_form(LearnerName.AUTO, rows, texts, Path(work), None)
    return {"perennial": _labelled(*ours), "tfidf": _labelled(*tfidf(rows, texts))}


def _fine_tuned(rows: Sequence[Example], asked: Sequence[Example], bench: Bench) -> list[str]:
    """The product's slow learner: all layers, one epoch, for one takes minutes and a second one buys little."""
    with TemporaryDirectory() as folder:
        work = Path(folder)
        write_rows(work / "slow.jsonl", [row for row in rows if split_of(row.text) is Split.TRAIN])
        write_rows(work / "slow-held.jsonl", [row for row in rows if split_of(row.text) is Split.HOLDOUT])
        spec = JobSpec(
            learner=LearnerName.FINETUNE,
            examples=work / "slow.jsonl",
            holdout=work / "slow-held.jsonl",
            encoder=bench.encoder,
            out=work / "slow",
            cache=work / "cache",
            max_length=64,
            params=_OF_TWEETS,
        )
        train_model(spec, Context())
        return _labelled(*answer(work / "slow", [row.text for row in asked], cache=work / "cache"))


def _labelled(labels: Sequence[str], scores: NDArray[Any]) -> list[str]:
    return [labels[place] for place in scores.argmax(axis=1)]


def _of_tweets(
    rows: Sequence[Example],
    asked: Sequence[Example],
    given: Mapping[str, Sequence[str]],
    recipes: list[dict[str, Any]],
) -> dict[str, Any]:
    truth = [row.label for row in asked]
    figures = {
        arm: {"accuracy": 100 * accuracy(answers, truth), "macro_f1": macro_f1(answers, truth)}
        for arm, answers in given.items()
    }
    for arm, answers in given.items():
        if arm != "tfidf":
            others = {other: figures[other]["macro_f1"] for other in given if other != arm}
            name = "opinion: twitter_fin" + (", fine-tuned" if arm == "fine_tuned" else "")
            interval = list(_f1_interval(answers, truth))
            recipes.append(record.recipe(name, "macro F1", figures[arm]["macro_f1"], interval, others))
    return {**figures, "rows": len(rows), "asked": len(asked)}


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
