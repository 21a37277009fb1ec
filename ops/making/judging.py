"""`python -m perennial.ops.making.judging SPEC.json`: both versions answer the same held-out rows; the gate decides.

The work is done in a process of its own, on the bundles themselves, so that a judgement neither slows live requests
nor trusts anything but the files that would be served. It is also the challenger's test load, before any Triton sees
it: an engine that crashes, hangs, takes too much memory or does not repeat its golden answers costs this process and
nothing else.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.arrays import softmax
from perennial.continual.errors import PerennialError
from perennial.continual.gate import GateEvidence, GateRules, PairedRows, judge
from perennial.continual.jobs.memory import resident_mb
from perennial.continual.learning.metrics import expected_calibration_error
from perennial.continual.records import PromotionDecision
from perennial.continual.task import AnyTask
from perennial.continual.tasks import DEFAULT_TASK, task_named
from perennial.exporters.classifier import BundleClassifier
from perennial.exporters.golden import GOLDEN, Golden

__all__ = ["JudgingSpec", "main", "measure"]

_LATENCY_TEXTS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingSpec:
    """What to judge: two bundles, the rows as `[text, label]` pairs, the rules, and the task that scores answers.

    With `old_among_all` old rows may be answered with new classes too, and count as lost when they are.
    """

    champion: int
    challenger: int
    champion_bundle: str
    challenger_bundle: str
    fresh: list[list[str]]
    old: list[list[str]]
    rules: dict[str, Any]
    seed: int
    threads: int
    cache: str | None = None
    old_among_all: bool = False
    task: str = DEFAULT_TASK


def measure(spec: JudgingSpec) -> tuple[GateEvidence, dict[str, float]]:
    """Let both bundles answer all rows once, and time them one text at a time, taking turns.

    The second is what the challenger's load cost: seconds, megabytes, and its difference from its golden answers.

    Raises:
        BundleRejected: a bundle is not what its manifest says, or the challenger does not repeat its golden answers.
    """
    cache = None if spec.cache is None else Path(spec.cache)
    champion = BundleClassifier.load(Path(spec.champion_bundle), threads=spec.threads, cache_dir=cache)
    challenger, loaded = _test_loaded(Path(spec.challenger_bundle), spec.threads, cache)
    rows = spec.fresh + spec.old
    texts = [row[0] for row in rows]
    fresh, old = slice(0, len(spec.fresh)), slice(len(spec.fresh), len(rows))
    task = task_named(spec.task)
    answers = _Answers(champion, texts, task), _Answers(challenger, texts, task)
    champion_ms, challenger_ms = _latencies(champion, challenger, texts)
    labels = np.asarray([row[1] for row in rows], dtype=str)
    evidence = GateEvidence(
        champion=spec.champion,
        challenger=spec.challenger,
        fresh=_paired(answers, labels, fresh, within=None),
        old=_paired(answers, labels, old, within=None if spec.old_among_all else champion.labels, of=champion.labels),
        challenger_calibration_error=answers[1].calibration_error(labels),
        champion_latency_ms=champion_ms,
        challenger_latency_ms=challenger_ms,
    )
    return evidence, loaded


def _test_loaded(bundle: Path, threads: int, cache: Path | None) -> tuple[BundleClassifier, dict[str, float]]:
    started, before = time.perf_counter(), resident_mb()
    version = BundleClassifier.load(bundle, threads=threads, cache_dir=cache)
    told = {"challenger_load_s": time.perf_counter() - started}
    if (bundle / GOLDEN).is_file():
        told["challenger_golden_difference"] = Golden.read(bundle).check(version.engine)
    return version, told | {"challenger_load_mb": max(0.0, resident_mb() - before)}


class _Answers:
    """One version's answers to all rows."""

    def __init__(self, version: BundleClassifier, texts: Sequence[str], task: AnyTask) -> None:
        self.task = task
        self._labels = np.asarray(version.labels)
        self._logits = version.predict(texts).logits

    def scores(self, labels: NDArray[np.str_], rows: slice, within: Sequence[str] | None) -> NDArray[np.float64]:
        """How good the answer to each of the rows is, the answers restricted to the labels `within` when given."""
        logits = self._logits[rows]
        if within is not None:
            logits = np.where(np.isin(self._labels, np.asarray(list(within)))[None, :], logits, -np.inf)
        answers = self._labels[logits.argmax(axis=1)].tolist()
        pairs = zip(answers, labels[rows].tolist(), strict=True)
        return np.array([self.task.score(answer, label) for answer, label in pairs], dtype=np.float64)

    def calibration_error(self, labels: NDArray[np.str_]) -> float:
        """Expected calibration error over all rows; 0 without any."""
        if not len(labels):
            return 0.0
        scores = self.scores(labels, slice(None), None)
        return float(expected_calibration_error(softmax(self._logits).max(axis=1), scores))


def _paired(
    answers: tuple[_Answers, _Answers],
    labels: NDArray[np.str_],
    rows: slice,
    *,
    within: Sequence[str] | None,
    of: Sequence[str] | None = None,
) -> PairedRows:
    """Both versions on the same rows: answers restricted to `within`, rows to those whose own label is one of `of`."""
    kept = np.ones(len(labels[rows]), dtype=np.bool_)
    if of is not None:
        kept = np.isin(labels[rows], np.asarray(list(of)))
    champion, challenger = (version.scores(labels, rows, within)[kept] for version in answers)
    return PairedRows(
        strata=labels[rows][kept],
        champion_scores=champion,
        challenger_scores=challenger,
        stratum_noun=answers[0].task.stratum_noun,
    )


def _latencies(champion: BundleClassifier, challenger: BundleClassifier, texts: Sequence[str]) -> tuple[float, float]:
    """Median milliseconds of one text alone."""
    times: tuple[list[float], list[float]] = ([], [])
    for text in list(texts[:_LATENCY_TEXTS]) or ["warm-up"]:
        for version, spent in zip((champion, challenger), times, strict=True):
            started = time.perf_counter()
            version.predict([text])
            spent.append(1e3 * (time.perf_counter() - started))
    return float(np.median(times[0])), float(np.median(times[1]))


def decide(spec: JudgingSpec) -> PromotionDecision:
    """Measure and judge."""
    evidence, loaded = measure(spec)
    decision = judge(evidence, GateRules(**spec.rules), np.random.default_rng(spec.seed))
    return replace(decision, figures={**decision.figures, **loaded})


def main() -> int:
    """Read the spec, write the decision beside it as `decision.json`, and exit 0 whatever it says."""
    path = Path(sys.argv[1])
    try:
        decision = decide(JudgingSpec(**json.loads(path.read_text(encoding="utf-8"))))
    except PerennialError as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return exc.exit_code
    (path.parent / "decision.json").write_text(json.dumps(asdict(decision)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
