"""`python -m ops.loop.judging SPEC.json`: both versions answer the same held-out rows; the gate decides.

The work is done in a process of its own, on the bundles themselves, so that a judgement neither slows live requests
nor trusts anything but the files that would be served.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from continual.errors import PerennialError
from continual.gate import GateEvidence, GateRules, PairedRows, judge
from continual.learning.metrics import expected_calibration_error
from continual.records import PromotionDecision
from exporters.classifier import BundleClassifier, softmax

__all__ = ["JudgingSpec", "main", "measure", "paired"]

_LATENCY_TEXTS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingSpec:
    """What to judge: two bundles, the rows as `[text, label]` pairs, and the rules."""

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


def measure(spec: JudgingSpec) -> GateEvidence:
    """Let both bundles answer all rows, and time them one text at a time, taking turns."""
    cache = None if spec.cache is None else Path(spec.cache)
    champion = BundleClassifier.load(Path(spec.champion_bundle), threads=spec.threads, cache_dir=cache)
    challenger = BundleClassifier.load(Path(spec.challenger_bundle), threads=spec.threads, cache_dir=cache)
    champion_ms, challenger_ms = _latencies(champion, challenger, [row[0] for row in (spec.fresh + spec.old)])
    return GateEvidence(
        champion=spec.champion,
        challenger=spec.challenger,
        fresh=paired(champion, challenger, spec.fresh, within=None),
        old=paired(champion, challenger, spec.old, within=champion.labels),
        challenger_calibration_error=_calibration_error(challenger, spec.fresh + spec.old),
        champion_latency_ms=champion_ms,
        challenger_latency_ms=challenger_ms,
    )


def paired(
    champion: BundleClassifier,
    challenger: BundleClassifier,
    rows: Sequence[Sequence[str]],
    *,
    within: Sequence[str] | None,
) -> PairedRows:
    """Both versions on the same rows, the answers restricted to the labels `within` when given.

    Restricted rows whose own label is outside are left out.
    """
    kept = [row for row in rows if within is None or row[1] in set(within)]
    return PairedRows(
        labels=np.asarray([row[1] for row in kept], dtype=object).astype(str),
        champion_correct=_correct(champion, kept, within),
        challenger_correct=_correct(challenger, kept, within),
    )


def _correct(version: BundleClassifier, rows: Sequence[Sequence[str]], within: Sequence[str] | None) -> Any:
    if not rows:
        return np.zeros(0, dtype=np.bool_)
    logits = version.predict([row[0] for row in rows]).logits.copy()
    if within is not None:
        allowed = np.isin(np.asarray(version.labels), np.asarray(list(within)))
        logits[:, ~allowed] = -np.inf
    answers = np.asarray(version.labels)[logits.argmax(axis=1)]
    return answers == np.asarray([row[1] for row in rows])


def _calibration_error(version: BundleClassifier, rows: Sequence[Sequence[str]]) -> float:
    if not rows:
        return 0.0
    probabilities = softmax(version.predict([row[0] for row in rows]).logits)
    answers = np.asarray(version.labels)[probabilities.argmax(axis=1)]
    correct = answers == np.asarray([row[1] for row in rows])
    return float(expected_calibration_error(probabilities.max(axis=1), correct))


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
    return judge(measure(spec), GateRules(**spec.rules), np.random.default_rng(spec.seed))


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
