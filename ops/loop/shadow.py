"""`python -m ops.loop.shadow SPEC.json`: logged traffic through champion and challenger, compared row by row."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continual.errors import PerennialError
from exporters.classifier import BundleClassifier

__all__ = ["ShadowSpec", "main", "replay"]

_SAMPLES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSpec:
    """What to replay: two bundles and `[text, label or null]` rows."""

    champion_bundle: str
    challenger_bundle: str
    rows: list[list[str | None]]
    threads: int
    seed: int


def replay(spec: ShadowSpec) -> dict[str, Any]:
    """The comparison: disagreement with its texts, shift of confidence, latency, and quality on labelled rows.

    Intervals are 95% bootstrap intervals over rows; differences are challenger minus champion.
    """
    champion = BundleClassifier.load(Path(spec.champion_bundle), threads=spec.threads)
    challenger = BundleClassifier.load(Path(spec.challenger_bundle), threads=spec.threads)
    texts = [str(row[0]) for row in spec.rows]
    old, old_ms = _timed(champion, texts)
    new, new_ms = _timed(challenger, texts)
    rng = np.random.default_rng(spec.seed)
    differ = np.asarray([a != b for a, b in zip(old.labels, new.labels, strict=True)])
    labelled = [i for i, row in enumerate(spec.rows) if row[1] is not None]
    gain = np.asarray(
        [100.0 * ((new.labels[i] == spec.rows[i][1]) - (old.labels[i] == spec.rows[i][1])) for i in labelled]
    )
    order = [int(i) for i in np.flatnonzero(differ)[:_SAMPLES]]
    return {
        "rows": len(texts),
        "disagreement_share": _interval(differ.astype(np.float64), rng),
        "confidence_difference": _interval((new.confidences - old.confidences).astype(np.float64), rng),
        "latency_ratio": new_ms / old_ms if old_ms else float("nan"),
        "labelled_rows": len(labelled),
        "accuracy_difference_points": _interval(gain, rng),
        "disagreements": [
            {"text": texts[i], "champion": old.labels[i], "challenger": new.labels[i], "label": spec.rows[i][1]}
            for i in order
        ],
    }


def _timed(version: BundleClassifier, texts: Sequence[str]) -> tuple[Any, float]:
    version.predict(texts[:8])
    started = time.perf_counter()
    answers = version.predict(texts)
    return answers, 1e3 * (time.perf_counter() - started) / max(1, len(texts))


def _interval(values: NDArray[np.float64], rng: np.random.Generator) -> dict[str, float]:
    if not len(values):
        return {"mean": 0.0, "low": 0.0, "high": 0.0}
    means = rng.choice(values, size=(1000, len(values)), replace=True).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


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
