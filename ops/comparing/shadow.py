"""`python -m perennial.ops.comparing.shadow SPEC.json`: logged traffic through both versions, compared row by row."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import PerennialError
from perennial.continual.intervals import Interval, bonett_price, mean_interval, wilson
from perennial.continual.rollout import ScoreSums
from perennial.continual.tasks import DEFAULT_TASK, task_named
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.serving.port import Answer
from perennial.ops.serving.tasks import serving_side

__all__ = ["ShadowSpec", "main", "replay"]

_SAMPLES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSpec:
    """What to replay, at most `rows_per_s` a second, and the task that scores it.

    A row is what the log keeps of the question, and the target as it is kept where it is known. `memory` is the file of
    what is remembered of those who ask.
    """

    champion_bundle: str
    challenger_bundle: str
    rows: list[tuple[dict[str, Any], str | None]]
    threads: int
    seed: int
    rows_per_s: float
    task: str = DEFAULT_TASK
    memory: str | None = None


@dataclass(frozen=True, slots=True)
class _Replayed:
    """One version's answers, as they are kept, in the order of the rows; times in milliseconds a row."""

    answers: list[str]
    confidences: NDArray[np.float64]
    times_ms: NDArray[np.float64]


def replay(spec: ShadowSpec) -> dict[str, Any]:
    """The comparison: disagreement with its texts, shift of confidence, latency, and quality on labelled rows.

    Differences are challenger minus champion, each with a 95% interval, or None where there is no row to tell it from.
    The versions take turns on each text, alone, so that a machine that slows down meanwhile slows both. Confidence is
    the calibrated probability; its shift is given over all rows and over those on which the versions agree.

    The share's interval is Wilson's, the paired accuracies' Bonett and Price's, which both stay honest where no row
    differs; confidence and latency have the bootstrap's over rows.
    """
    champion = BundledVersion.load(Path(spec.champion_bundle), threads=spec.threads)
    challenger = BundledVersion.load(Path(spec.challenger_bundle), threads=spec.threads)
    task, side = task_named(spec.task), serving_side(spec.task)
    memory = side.memory(None if spec.memory is None else Path(spec.memory))
    task_inputs = memory.recalled([side.logged_input(logged) for logged, _ in spec.rows])
    old, new = _replayed(champion, challenger, task_inputs, spec.rows_per_s)
    rng = np.random.default_rng(spec.seed)
    answers = [
        (task.read_answer(one), task.read_answer(other)) for one, other in zip(old.answers, new.answers, strict=True)
    ]
    differ = np.array([not task.same(one, other) for one, other in answers], dtype=np.bool_)
    shift = new.confidences - old.confidences
    agreed = shift[~differ]
    targets = [(place, task.read_target(target)) for place, (_, target) in enumerate(spec.rows) if target]
    gains = Counter(task.score(answers[i][1], target) - task.score(answers[i][0], target) for i, target in targets)
    return {
        "rows": len(spec.rows),
        "disagreement_share": _share(int(differ.sum()), len(spec.rows)),
        "confidence_difference": _mean(shift[np.isfinite(shift)], rng),
        "confidence_difference_where_agreed": _mean(agreed[np.isfinite(agreed)], rng),
        "latency_difference_ms": _mean(new.times_ms - old.times_ms, rng),
        "latency_ms": {"champion": _median(old.times_ms), "challenger": _median(new.times_ms)},
        "labelled_rows": len(targets),
        "accuracy_difference_points": _paired_points(ScoreSums.of(gains)),
        "disagreements": [
            {
                "text": " ".join(map(str, spec.rows[i][0].values())),
                "champion": old.answers[i],
                "challenger": new.answers[i],
                "label": spec.rows[i][1],
            }
            for i in np.flatnonzero(differ)[:_SAMPLES]
        ],
    }


def _replayed(
    champion: BundledVersion, challenger: BundledVersion, inputs: Sequence[Any], rows_per_s: float
) -> tuple[_Replayed, _Replayed]:
    timed: tuple[list[tuple[Answer, float]], list[tuple[Answer, float]]] = ([], [])
    for version in (champion, challenger):
        version.answers(inputs[:2])  # the first call of an engine is slower than any other
    began = time.monotonic()
    for done, task_input in enumerate(inputs):
        for version, answers in zip((champion, challenger), timed, strict=True):
            started = time.perf_counter()
            (answer,) = version.answers([task_input])
            answers.append((answer, 1e3 * (time.perf_counter() - started)))
        time.sleep(max(0.0, (done + 1) / rows_per_s - (time.monotonic() - began)))
    return _columns(timed[0]), _columns(timed[1])


def _columns(timed: Sequence[tuple[Answer, float]]) -> _Replayed:
    confidences = [np.nan if answer.confidence is None else answer.confidence for answer, _ in timed]
    return _Replayed(
        [answer.kept for answer, _ in timed],
        np.asarray(confidences, dtype=np.float64),
        np.asarray([milliseconds for _, milliseconds in timed], dtype=np.float64),
    )


def _median(values: NDArray[np.float64]) -> float | None:
    return float(np.median(values)) if len(values) else None


def _share(hits: int, rows: int) -> dict[str, float] | None:
    return _figure(wilson(hits, rows)) if rows else None


def _paired_points(sums: ScoreSums) -> dict[str, float] | None:
    if not sums.rows:
        return None
    return _figure(
        bonett_price(sums.gained, sums.lost, sums.rows, squares=(sums.gained_squares, sums.lost_squares)), times=100.0
    )


def _mean(values: NDArray[np.float64], rng: np.random.Generator) -> dict[str, float] | None:
    return _figure(mean_interval(values, rng)) if len(values) else None


def _figure(interval: Interval, times: float = 1.0) -> dict[str, float]:
    return {"mean": times * interval.mean, "low": times * interval.low, "high": times * interval.high}


def main(work: Callable[[ShadowSpec], dict[str, Any]] = replay) -> int:
    """Read the spec and write `shadow.report.json` beside it."""
    path = Path(sys.argv[1])
    try:
        report = work(ShadowSpec(**json.loads(path.read_text(encoding="utf-8"))))
    except PerennialError as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return exc.exit_code
    (path.parent / "shadow.report.json").write_text(json.dumps(report, ensure_ascii=False), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
