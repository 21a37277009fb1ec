"""Fairness and robustness figures: equal to fairlearn's, what they find, and how models bear disturbed texts.

    python -m benchmarks.fairness --data FOLDER [--data FOLDER ...] [--out FOLDER] [--quick]

Each folder is a labelled set of `benchmarks.labelled_sets`. Four parts, on each:
1. Every figure of `slices_of` beside fairlearn's own `MetricFrame` on the same answers, and the time of both. The
   attribute is drawn by chance with three values, so an interval that leaves 0 out is a false alarm; it is counted.
2. A planted harm: rows of one group are answered wrongly with some probability. How many rows a limit needs to see it.
3. Thresholds of each group's own beside fairlearn's `ThresholdOptimizer`, on rows that neither has seen. Scores of
   one half of the rows are lowered, as of a model that treats those people worse.
4. Accuracy under each change of texts, and answers that names and wordings change: the ridge of the product, without
   and with copies of its rows that have typos, a fine-tuned network without and with noisy training, and TF-IDF with
   logistic regression.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from benchmarks import record
from benchmarks.labelled_learners import Bench, tfidf_model
from benchmarks.labelled_sets import SETS, steps_of
from perennial.continual.arrays import softmax
from perennial.continual.fairness.limits import FairnessLimit
from perennial.continual.fairness.probes import ProbedGroup, probe_dialects, probe_names
from perennial.continual.fairness.slices import FIGURES, Counted, slices_of
from perennial.continual.fairness.thresholds import EQUALISED, fit_thresholds
from perennial.continual.learning.answering import answer
from perennial.continual.learning.context import Context
from perennial.continual.learning.learners import train_model
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.preparation import split_of
from perennial.continual.records import Example, Split
from perennial.continual.robustness import changed_answers
from perennial.continual.robustness.changes import with_typos

__all__ = ["main"]

Answers = Callable[[Sequence[str]], list[str]]
_NOISY: Mapping[str, dict[str, Any]] = {
    "tuned": {},
    "tuned, typos": {"typos": 0.5},
    "tuned, words left out": {"augment": 0.1},
    "tuned, synonyms": {"synonyms": 0.5},
    "tuned, adversary": {"adversary": 1.0},
    "tuned, embedding noise": {"embedding_noise": 5.0},
}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True, help="banking77, gold_news, waimai ...")
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument("--rows", type=int, default=3_000, help="to learn from")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--asked", type=int, default=800, help="test rows of which each change is asked")
    parser.add_argument("--quick", action="store_true", help="without fine-tuning, and fewer draws")
    arguments = parser.parse_args()
    import_module("fairlearn")  # whoever lacks the extra learns it before anything is trained
    found = {}
    for folder in arguments.data:
        columns = SETS[folder.name]
        learnt, test = steps_of(folder, columns, arguments.rows)[-1]
        if columns.stream:  # its last lot is small
            whole = [*learnt, *test]
            learnt, test = whole[: arguments.rows], whole[arguments.rows :]
        test = [row for row in test if row.label in {each.label for each in learnt}]
        arms = _arms(folder.name, learnt, arguments)
        answers = arms["ridge"]([row.text for row in test])
        ridge = arguments.out / "work" / folder.name / f"ridge-{len(learnt)}"
        draws = 20 if arguments.quick else 200
        found[folder.name] = {
            "rows": len(learnt),
            "tested": len(test),
            "fairlearn": _beside_fairlearn(test, answers, draws),
            "planted": _planted(test, answers, draws),
            "thresholds": _thresholds(test, *answer(ridge, [row.text for row in test], cache=arguments.out / "cache")),
            "disturbed": {
                name: _disturbed(arm, test, arguments.asked, names=", " not in name) for name, arm in arms.items()
            },
        }
        _show(folder.name, found[folder.name])
    print(record.write("fairness", found, arguments.out))


def _arms(name: str, learnt: Sequence[Example], arguments: argparse.Namespace) -> dict[str, Answers]:
    """The models that are asked, by what they are called."""
    columns, work = SETS[name], arguments.out / "work" / name
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(columns.encoder, arguments.out / "cache")
    (_, _), ridge = bench.closed_form(LearnerName.RIDGE, learnt, [learnt[0].text], work, None)
    copies = [replace(row, text=with_typos(row.text, np.random.default_rng(place))) for place, row in enumerate(learnt)]
    pairs = zip(learnt, copies, strict=True)  # no copy of a held-out row, and none that is held out
    taught = [copy for row, copy in pairs if {split_of(row.text), split_of(copy.text)} == {Split.TRAIN}]
    (_, _), copied = bench.closed_form(LearnerName.RIDGE, [*learnt, *taught], [learnt[0].text], work, None)
    arms = {"ridge": _of_folder(ridge, bench.cache), "ridge, typos": _of_folder(copied, bench.cache)}
    arms["TF-IDF"] = _of_tfidf(learnt)
    if arguments.quick:
        return arms
    write_rows(work / "fresh.jsonl", [row for row in learnt if split_of(row.text) is Split.TRAIN])
    write_rows(work / "held.jsonl", [row for row in learnt if split_of(row.text) is Split.HOLDOUT])
    for arm, noisy in _NOISY.items():
        spec = JobSpec(
            learner=LearnerName.FINETUNE,
            examples=work / "fresh.jsonl",
            holdout=work / "held.jsonl",
            encoder=columns.encoder,
            out=work / arm.replace(" ", "-").replace(",", ""),
            cache=bench.cache,
            threads=2,
            params={"head": "linear", "epochs": arguments.epochs, **noisy},
        )
        if not (spec.out / "model.json").is_file():
            train_model(spec, Context())
        arms[arm] = _of_folder(spec.out, bench.cache)
    return arms


def _of_folder(folder: Path, cache: Path) -> Answers:
    def answers(texts: Sequence[str]) -> list[str]:
        labels, logits = answer(folder, list(texts), cache=cache, threads=2)
        return [labels[place] for place in logits.argmax(axis=1)]

    return answers


def _of_tfidf(learnt: Sequence[Example]) -> Answers:
    model = tfidf_model(learnt)
    return lambda texts: [str(label) for label in model.predict(texts)]


def _beside_fairlearn(test: Sequence[Example], given: Sequence[str], draws: int) -> dict[str, Any]:
    """The largest difference of any figure, the time of both, and false alarms of gaps by attributes of chance."""
    from fairlearn.metrics import MetricFrame, false_negative_rate, false_positive_rate, selection_rate
    from sklearn.metrics import accuracy_score

    labels = [row.label for row in test]
    rng = np.random.default_rng(0)
    groups = [f"g{number}" for number in rng.integers(0, 3, len(test)).tolist()]
    began = time.perf_counter()
    ours = slices_of("chance", groups, labels, given, least_rows=1)
    our_s = time.perf_counter() - began
    metrics = dict(zip(FIGURES[1:], (selection_rate, false_positive_rate, false_negative_rate), strict=True))
    worst, theirs_s, gaps = 0.0, 0.0, dict.fromkeys(FIGURES, 0.0)
    began = time.perf_counter()
    whole = MetricFrame(
        metrics=accuracy_score, y_true=np.array(labels), y_pred=np.array(given), sensitive_features=groups
    )
    worst = max(abs(whole.by_group[each.group] - each.accuracy.mean) for each in ours.groups)
    gaps["accuracy"] = float(whole.difference())
    for label in sorted({*labels, *given}):
        truth, answered = (np.array([each == label for each in part], dtype=int) for part in (labels, given))
        frame = MetricFrame(metrics=metrics, y_true=truth, y_pred=answered, sensitive_features=groups)
        for rate in ours.rates:
            if rate.label != label:
                continue
            for figure in metrics:
                interval = getattr(rate, figure)
                if interval is not None:
                    worst = max(worst, abs(float(frame.by_group[figure][rate.group]) - interval.mean))
        for figure, value in frame.difference().items():
            gaps[str(figure)] = max(gaps[str(figure)], float(value))
    theirs_s = time.perf_counter() - began
    worst = max(worst, *(abs(gaps[gap.figure] - gap.difference.mean) for gap in ours.gaps))
    alarms = dict.fromkeys(FIGURES, 0)
    for draw in range(draws):
        chance = [f"g{number}" for number in np.random.default_rng(draw).integers(0, 3, len(test)).tolist()]
        counted = Counted.of(chance, labels, list(given))
        for figure in FIGURES:
            gap = counted.widest(figure)
            alarms[figure] += gap is not None and gap.difference.low > 0.0
    return {
        "largest_difference": worst,
        "ours_s": our_s,
        "fairlearn_s": theirs_s,
        "false_alarms": {figure: count / draws for figure, count in alarms.items()},
    }


def _planted(test: Sequence[Example], given: Sequence[str], draws: int) -> dict[str, dict[str, float]]:
    """How often a limit of 5 points on accuracy refuses, by how many points of one half are spoilt, and the rows."""
    labels = np.array([row.label for row in test])
    limit = FairnessLimit(attribute="half", figure="accuracy_difference", bound=0.05)
    found: dict[str, dict[str, float]] = {}
    for spoilt in (0.0, 0.05, 0.1, 0.2):
        for rows in (200, 500, 1_000, 2_000):
            if rows > len(test):
                continue
            refused = 0
            for draw in range(draws):
                rng = np.random.default_rng([draw, rows])
                chosen = rng.permutation(len(test))[:rows]
                half = rng.random(rows) < 0.5
                answered = np.array(given)[chosen]
                wrong = half & (rng.random(rows) < spoilt)
                answered[wrong] = "nothing of the kind"
                groups = ["one" if each else "other" for each in half]
                figure = limit.measured(groups, labels[chosen].tolist(), answered.tolist(), labels[chosen].tolist())
                refused += figure is not None and figure.reason is not None
            found.setdefault(f"{100 * spoilt:g} points", {})[str(rows)] = refused / draws
    return found


def _thresholds(test: Sequence[Example], classes: tuple[str, ...], logits: Any) -> dict[str, Any]:
    """Gap and share of right decisions on the second half of the rows, by thresholds of the first; ours and theirs."""
    from fairlearn.postprocessing import ThresholdOptimizer

    labels = np.array([row.label for row in test])
    commonest = max(classes, key=lambda label: int((labels == label).sum()))
    rng = np.random.default_rng(0)
    groups = np.where(rng.random(len(test)) < 0.5, "lowered", "other")
    scores = softmax(logits - 1.5 * np.outer(groups == "lowered", [label == commonest for label in classes]))
    score, truth = scores[:, classes.index(commonest)], labels == commonest
    first = rng.random(len(test)) < 0.5
    found: dict[str, Any] = {"class": commonest, "rows": int((~first).sum())}
    for figure in EQUALISED:
        cuts = fit_thresholds(groups[first], truth[first], score[first], figure)
        theirs = ThresholdOptimizer(
            estimator=_Scored().fit(None, None),
            constraints=f"{figure}_parity",
            prefit=True,
            predict_method="predict_proba",
        ).fit(score[first, None], truth[first].astype(int), sensitive_features=groups[first])
        drawn = theirs.predict(score[~first, None], sensitive_features=groups[~first], random_state=0)
        decided = {
            "now": scores[~first].argmax(axis=1) == classes.index(commonest),
            "ours": score[~first] >= np.array([cuts[group] for group in groups[~first]]),
            "fairlearn": np.asarray(drawn).astype(bool),
        }
        found[figure] = {name: _gap(groups[~first], truth[~first], flags, figure) for name, flags in decided.items()}
    return found


class _Scored(BaseEstimator):  # type: ignore[misc]
    """A model whose only input is its score."""

    def fit(self, X: Any, y: Any) -> "_Scored":
        del X, y
        self.fitted_ = True
        return self

    def predict_proba(self, X: Any) -> Any:
        return np.column_stack([1.0 - np.asarray(X)[:, 0], np.asarray(X)[:, 0]])


def _gap(groups: Any, truth: Any, decided: Any, figure: str) -> dict[str, float]:
    words = [np.where(flags, "yes", "no").tolist() for flags in (truth, decided)]
    gap = Counted.of(groups.tolist(), words[0], words[1]).widest(figure, label="yes", least_rows=1)
    return {"gap": 0.0 if gap is None else gap.difference.mean, "right": float((truth == decided).mean())}


def _disturbed(answers: Answers, test: Sequence[Example], most: int, *, names: bool) -> dict[str, Any]:
    """What changes, and where asked for names and wordings, do to one model's answers."""
    order = np.random.default_rng(0).permutation(len(test))
    some = [test[place] for place in order[:most]]
    texts, labels = [row.text for row in some], [row.label for row in some]
    whole = answers([row.text for row in test])
    groups: Sequence[ProbedGroup] = ()
    if names:
        groups = (*probe_names(texts, labels, answers, seed=0), *probe_dialects(texts, labels, answers))
    return {
        "accuracy": float(np.mean([got == row.label for got, row in zip(whole, test, strict=True)])),
        "changes": [asdict(each) for each in changed_answers(texts, labels, answers, seed=0)],
        "groups": [asdict(each) for each in groups],
    }


def _show(name: str, found: Mapping[str, Any]) -> None:
    beside = found["fairlearn"]
    print(
        f"{name}: {found['rows']} learnt, {found['tested']} tested; figures differ from fairlearn's by at most "
        f"{beside['largest_difference']:.1e} ({beside['ours_s']:.3f} s against {beside['fairlearn_s']:.3f} s)"
    )
    print("  false alarms:", ", ".join(f"{figure} {share:.1%}" for figure, share in beside["false_alarms"].items()))
    for spoilt, shares in found["planted"].items():
        print(f"  {spoilt} spoilt, refused:", ", ".join(f"{rows} rows {share:.0%}" for rows, share in shares.items()))
    beside = found["thresholds"]
    for figure in EQUALISED:
        told = (
            f"{arm} {100 * each['gap']:.1f} apart {100 * each['right']:.1f}% right"
            for arm, each in beside[figure].items()
        )
        print(f"  {figure} of {beside['class']} made equal, {beside['rows']} rows:", ", ".join(told))
    for arm, told in found["disturbed"].items():
        print(f"  {arm}: accuracy {told['accuracy']:.3f}")
        for each in told["changes"]:
            lost = each["lost"]
            print(
                f"    {each['change']:24} {100 * lost['mean']:6.1f} points lost [{100 * lost['low']:.1f}, "
                f"{100 * lost['high']:.1f}], {each['same']['mean']:.1%} the same, {each['rows']} rows"
            )
        for each in told["groups"]:
            beyond = "" if each["beyond"] is None else f", beyond other names {100 * each['beyond']['mean']:+.1f}"
            print(f"    {each['probe']} {each['group']:26} {each['changed']['mean']:.1%} change{beyond}")


if __name__ == "__main__":
    main()
