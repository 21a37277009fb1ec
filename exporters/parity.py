"""The gate between a built engine and the world: does it answer like the model it was made from?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from perennial.continual.arrays import pad
from perennial.continual.errors import ConfigurationError, ParityFailed
from perennial.continual.intervals import paired_bootstrap
from perennial.exporters.bundle import Precision
from perennial.exporters.classifier import run_sorted
from perennial.exporters.engine import Engine, Floats

__all__ = ["Answerer", "ParityLimits", "ParityVerdict", "Tokenises", "check_parity", "default_limits"]

_BATCH = 32
_INVARIANCE_ROWS = 16


class Tokenises(Protocol):
    """Whatever makes token rows of texts."""

    def encode(self, texts: Sequence[str], /) -> list[list[int]]:
        """The token ids of each text, unpadded."""
        ...


class Answerer(Protocol):
    """Whatever takes text and answers with one of its labels: a trained model or a bundle."""

    @property
    def engine(self) -> Engine:
        """What infers."""
        ...

    @property
    def tokenizer(self) -> Tokenises:
        """What makes token rows of texts."""
        ...

    @property
    def labels(self) -> Sequence[str]:
        """The label of each logit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityLimits:
    """How far an engine may be from its model.

    `agreement` is the least share of rows with the same label, one row of grace; `accuracy_drop` is in [0, 1] and
    fails only when the bootstrap interval agrees that there is a drop; the others are absolute logit differences.
    """

    agreement: float
    max_abs_logit: float
    mean_abs_logit: float
    accuracy_drop: float
    invariance: float

    @classmethod
    def from_mapping(cls, precision: Precision, given: Mapping[str, float]) -> "ParityLimits":
        """The precision's defaults with `given` in their place.

        Raises:
            ConfigurationError: `given` names a limit that does not exist or holds no non-negative number.
        """
        known = {item.name for item in fields(cls)}
        wrong = {name: value for name, value in given.items() if name not in known or not float(value) >= 0.0}
        if wrong:
            raise ConfigurationError(f"parity limits {wrong} are unknown or negative; known are {sorted(known)}")
        return cls(**{**asdict(default_limits(precision)), **{name: float(value) for name, value in given.items()}})


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityVerdict:
    """What was measured on `rows` held-out texts, against which reference, and every rule that failed.

    `accuracy_drop` is reference minus engine with its 95% bootstrap interval; None without known labels.
    `invariance` is the largest logit change of a row alone, in a batch, and beside longer neighbours.
    """

    accepted: bool
    reasons: tuple[str, ...]
    reference: str
    rows: int
    agreement: float
    max_abs_logit: float
    mean_abs_logit: float
    invariance: float
    accuracy_reference: float | None
    accuracy: float | None
    accuracy_drop: float | None
    accuracy_drop_interval: tuple[float, float] | None
    limits: ParityLimits

    def to_record(self) -> dict[str, Any]:
        """The verdict for a manifest: JSON values only."""
        record = asdict(self)
        record["reasons"] = list(self.reasons)
        record["accuracy_drop_interval"] = list(self.accuracy_drop_interval) if self.accuracy_drop_interval else None
        return {name: _plain(value) for name, value in record.items()}

    def require(self, what: str) -> "ParityVerdict":
        """The verdict itself when it accepts.

        Raises:
            ParityFailed: it does not; the message names every failed rule.
        """
        if not self.accepted:
            raise ParityFailed(f"{what} differs from its {self.reference}: {'; '.join(self.reasons)}")
        return self


def default_limits(precision: Precision) -> ParityLimits:
    """Limits that honest engines of the precision keep with room, and broken ones break (docs/engines.md)."""
    match precision:
        case Precision.FP32:
            values = (0.999, 5e-3, 5e-4, 0.001, 5e-3)
        case Precision.TF32 | Precision.FP16:
            values = (0.995, 0.1, 0.01, 0.002, 0.1)
        case Precision.BF16:
            values = (0.99, 0.5, 0.05, 0.003, 0.5)
        case Precision.INT8 | Precision.FP8:
            values = (0.98, 2.0, 0.15, 0.005, 1.0)
    names = [item.name for item in fields(ParityLimits)]
    return ParityLimits(**dict(zip(names, values, strict=True)))


def check_parity(
    reference: Answerer,
    engine: Answerer,
    texts: Sequence[str],
    labels: Sequence[str] | None,
    limits: ParityLimits,
    *,
    reference_name: str = "FP32 torch model",
) -> ParityVerdict:
    """Compare the two on held-out `texts` (and their true `labels`, where known); never raises on a bad engine.

    Costs one pass of each over the texts, batches of 32 by length, and three passes of the engine over 16 rows.
    """
    rows = reference.tokenizer.encode(texts)
    reasons = _same_words(reference, engine, texts, rows)
    wanted, _ = run_sorted(reference.engine, rows, _BATCH)
    seen, embedding = run_sorted(engine.engine, rows, _BATCH)
    if not rows or wanted.shape != seen.shape or seen.shape[1] != len(engine.labels):
        shapes = f"{seen.shape} for {len(engine.labels)} labels, the reference's {wanted.shape}"
        reasons.append(f"logits have shape {shapes}, over {len(rows)} texts")
        return _verdict(reasons, limits, reference_name, len(rows))
    if not (np.isfinite(seen).all() and np.isfinite(embedding).all()):
        reasons.append(f"{int((~np.isfinite(seen)).any(axis=1).sum())} rows have NaN or Inf")
        return _verdict(reasons, limits, reference_name, len(rows))
    expected = [reference.labels[index] for index in wanted.argmax(axis=1)]
    answered = [engine.labels[index] for index in seen.argmax(axis=1)]
    figures: dict[str, Any] = {
        "agreement": float(np.mean([a == b for a, b in zip(expected, answered, strict=True)])),
        "max_abs_logit": float(np.abs(wanted - seen).max()),
        "mean_abs_logit": float(np.abs(wanted - seen).mean()),
        "invariance": _invariance(engine.engine, rows),
    }
    if labels is not None:
        figures |= _accuracy(expected, answered, labels)
    reasons += _broken_rules(figures, limits, len(rows))
    return _verdict(reasons, limits, reference_name, len(rows), **figures)


def _verdict(reasons: list[str], limits: ParityLimits, reference: str, rows: int, **figures: Any) -> ParityVerdict:
    nothing: dict[str, Any] = {"agreement": 0.0, "max_abs_logit": float("inf"), "mean_abs_logit": float("inf")}
    nothing |= {"invariance": float("inf"), "accuracy_reference": None, "accuracy": None, "accuracy_drop": None}
    nothing |= {"accuracy_drop_interval": None}
    return ParityVerdict(
        accepted=not reasons, reasons=tuple(reasons), reference=reference, rows=rows, limits=limits, **nothing | figures
    )


def _same_words(reference: Answerer, engine: Answerer, texts: Sequence[str], rows: list[list[int]]) -> list[str]:
    reasons: list[str] = []
    if tuple(reference.labels) != tuple(engine.labels):
        pairs = zip(reference.labels, engine.labels, strict=False)
        moved = sum(a != b for a, b in pairs) + abs(len(reference.labels) - len(engine.labels))
        reasons.append(f"{moved} of {len(reference.labels)} labels stand at another logit than in the model")
    if engine.tokenizer is not reference.tokenizer:
        different = sum(a != b for a, b in zip(rows, engine.tokenizer.encode(texts), strict=True))
        if different:
            reasons.append(f"{different} of {len(rows)} texts are tokenised differently")
    return reasons


def _broken_rules(figures: Mapping[str, Any], limits: ParityLimits, rows: int) -> list[str]:
    reasons: list[str] = []
    disagreeing = round((1.0 - figures["agreement"]) * rows)
    if disagreeing > max(1.0, (1.0 - limits.agreement) * rows + 1e-9):  # 1 - 0.9 is a little less than a tenth
        reasons.append(f"agreement {figures['agreement']:.4f} over {rows} texts (limit {limits.agreement})")
    reasons += [
        f"{name} {figures[name]:.3g} (limit {getattr(limits, name):.3g})"
        for name in ("max_abs_logit", "mean_abs_logit", "invariance")
        if not figures[name] <= getattr(limits, name)
    ]
    drop, interval = figures.get("accuracy_drop"), figures.get("accuracy_drop_interval")
    if drop is not None and interval is not None and drop > limits.accuracy_drop and interval[0] > 0.0:
        reasons.append(f"accuracy falls by {drop:.4f} (limit {limits.accuracy_drop}, interval {interval})")
    return reasons


def _accuracy(expected: Sequence[str], answered: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    right = np.array([a == b for a, b in zip(expected, labels, strict=True)], dtype=np.float64)
    seen = np.array([a == b for a, b in zip(answered, labels, strict=True)], dtype=np.float64)
    drop = paired_bootstrap(right, seen, np.random.default_rng(0))
    return {
        "accuracy_reference": float(right.mean()),
        "accuracy": float(seen.mean()),
        "accuracy_drop": drop.mean,
        "accuracy_drop_interval": (drop.low, drop.high),
    }


def _invariance(engine: Engine, rows: Sequence[Sequence[int]]) -> float:
    """The largest change of a row's logits between alone, beside its fellows, and padded far beyond itself."""
    order = np.argsort([len(row) for row in rows], kind="stable")
    picks = np.unique(np.linspace(0, len(rows) - 1, _INVARIANCE_ROWS).round().astype(int))
    chosen = [rows[index] for index in order[picks]]
    alone: Floats = np.concatenate([engine.infer(*pad([row]))[0] for row in chosen])
    together = engine.infer(*pad(chosen))[0]
    longest = max(len(row) for row in rows)
    padded = engine.infer(*pad(chosen, width=longest + 1 if longest < 8 else longest))[0]
    differences: npt.NDArray[np.float32] = np.maximum(np.abs(together - alone), np.abs(padded - alone))
    return float(differences.max()) if np.isfinite(differences).all() else float("inf")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
