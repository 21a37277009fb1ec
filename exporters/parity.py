"""The gate between a built engine and the world: does it answer like the model it was made from?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from perennial.continual.errors import ConfigurationError, ParityFailed
from perennial.continual.intervals import paired_bootstrap
from perennial.continual.task import AnyTask
from perennial.continual.tasks import task_named
from perennial.exporters.batches import joined, lengths_of, padded_to, row_count, run_sorted, some_rows
from perennial.exporters.bundle import Precision
from perennial.exporters.closeness import agreeing, logit_unit, shifted
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.port import Answerer
from perennial.exporters.signature import Array, EngineSignature

__all__ = ["PARITY_BATCH", "ParityLimits", "ParityVerdict", "check_parity", "default_limits"]

PARITY_BATCH = 32
_INVARIANCE_ROWS = 16
_LOGITS = frozenset({"max_abs_logit", "mean_abs_logit", "invariance"})
_EXCUSE = 50.0  # times a limit: so far a difference may be none because no probability moves; beyond it something broke
_EDGE_ROOM = 3.0  # rows at the edges are like no traffic, and low precisions are coarse there


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityLimits:
    """How far an engine may be from its model.

    `agreement` is the least share of rows with the same label, one row of grace; `accuracy_drop` is in [0, 1] and
    fails only when the bootstrap interval agrees that there is a drop; the others are logit differences, for logits of
    usual size: larger ones may differ by as much more. A difference that moves less than `probability` between classes
    is none. Where it is 0 the differences are absolute, as they are when one is set by hand.
    """

    agreement: float
    max_abs_logit: float
    mean_abs_logit: float
    accuracy_drop: float
    invariance: float
    probability: float = 0.0

    @classmethod
    def from_mapping(cls, precision: Precision, values: Mapping[str, float]) -> "ParityLimits":
        """The precision's defaults with `values` in their place.

        Raises:
            ConfigurationError: `values` names a limit that does not exist or holds no non-negative number.
        """
        known = {item.name for item in fields(cls)}
        wrong = {name: value for name, value in values.items() if name not in known or not float(value) >= 0.0}
        if wrong:
            raise ConfigurationError(f"parity limits {wrong} are unknown or negative; known are {sorted(known)}")
        by_hand = {name: float(value) for name, value in values.items()}
        if _LOGITS & by_hand.keys():
            by_hand = {"probability": 0.0} | by_hand
        return cls(**{**asdict(default_limits(precision)), **by_hand})


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityVerdict:
    """What was measured on `rows` held-out texts, against which reference, and every rule that failed.

    `accuracy_drop` is reference minus engine with its 95% bootstrap interval; None without known labels.
    `invariance` is the largest logit change of a row alone, in a batch, and beside longer neighbours. The limits of
    logits were multiplied by `unit`, which is 1 unless the logits are larger than usual.
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
    unit: float = 1.0

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
            raise ParityFailed(
                f"{what} differs from its {self.reference}: {'; '.join(self.reasons)}; set another engine or a higher "
                "precision, such as fp32, or wider limits, and export it again"
            )
        return self


def default_limits(precision: Precision) -> ParityLimits:
    """Limits that honest engines of the precision keep with room, and broken ones break (docs/engines.md)."""
    match precision:
        case Precision.FP32:
            values = (0.999, 5e-3, 5e-4, 0.001, 5e-3, 5e-4)
        case Precision.TF32 | Precision.FP16:
            values = (0.995, 0.1, 0.01, 0.002, 0.1, 2e-3)
        case Precision.BF16:
            values = (0.99, 0.5, 0.05, 0.003, 0.5, 5e-3)
        case Precision.INT8 | Precision.FP8:
            values = (0.98, 2.0, 0.15, 0.005, 1.0, 0.01)
    names = [item.name for item in fields(ParityLimits)]
    return ParityLimits(**dict(zip(names, values, strict=True)))


def check_parity(
    reference: Answerer,
    engine: Answerer,
    inputs: Sequence[Any],
    targets: Sequence[Any] | None,
    limits: ParityLimits,
    *,
    reference_name: str = "FP32 torch model",
) -> ParityVerdict:
    """Compare the two on held-out `inputs` (and their `targets`, where known); never raises on a bad engine.

    Costs one pass of each over the inputs, batches of 32 by length, and three passes of the engine over 16 rows.
    """
    signature, task = reference.signature, task_named(reference.task)
    rows = reference.encode(inputs)
    count = len(inputs)
    reasons = [*engine.unlike(reference), *_encoded_otherwise(reference, engine, inputs, rows)]
    wanted = run_sorted(reference.engine, signature, rows, PARITY_BATCH)
    seen = run_sorted(engine.engine, signature, rows, PARITY_BATCH)
    if wrong := _wrong_shapes(reference, engine, wanted, seen) if count else "there is no row":
        reasons.append(f"{wrong}, over {count} texts")
        return _verdict(reasons, limits, reference_name, count)
    if broken := _not_finite(seen, count):
        reasons.append(f"{broken} rows have NaN or Inf")
        return _verdict(reasons, limits, reference_name, count)
    expected, answered = reference.answers(wanted), engine.answers(seen)
    apart = [np.abs(wanted[name] - seen[name]) for name in signature.proved]
    invariance, steady = _invariance(engine.engine, signature, rows)
    figures: dict[str, Any] = {
        "agreement": float(np.mean([task.same(a, b) for a, b in zip(expected, answered, strict=True)])),
        "max_abs_logit": max(float(differences.max(initial=0.0)) for differences in apart),
        "mean_abs_logit": max(float(differences.mean()) for differences in apart),
        "invariance": invariance,
    }
    if limits.probability > 0:
        figures["unit"] = max(logit_unit(wanted[name]) for name in signature.proved)
    moved = [shifted(wanted[name], seen[name]) for name in signature.proved]
    excused = {
        "max_abs_logit": max(float(rows_moved.max(initial=0.0)) for rows_moved in moved) <= limits.probability,
        "mean_abs_logit": max(float(rows_moved.mean()) for rows_moved in moved) <= limits.probability,
        "invariance": steady <= limits.probability,
    }
    ties = [place for place in range(count) if expected[place] != answered[place]]
    if limits.probability > 0 and ties:
        near = np.all([_tied(wanted[name][ties], seen[name][ties]) for name in signature.proved], axis=0)
        figures["agreement"] += float(near.sum()) / count
    reasons += _at_the_edges(reference, engine, inputs, limits, figures.get("unit", 1.0))
    if targets is not None:
        figures |= _accuracy(task, expected, answered, targets)
    far = {name: figures[name] > _EXCUSE * getattr(limits, name) * figures.get("unit", 1.0) for name in excused}
    excused = {name: holds and limits.probability > 0 and not far[name] for name, holds in excused.items()}
    reasons += _broken_rules(figures, limits, count, excused)
    return _verdict(reasons, limits, reference_name, count, **figures)


def _tied(wanted: Array, seen: Array) -> npt.NDArray[np.bool_]:
    """Rows that answer otherwise because of a tie: the best place is another one, and led by next to nothing."""
    tied: npt.NDArray[np.bool_] = agreeing(wanted, seen) & (wanted.argmax(axis=-1) != seen.argmax(axis=-1))
    return tied


def _verdict(reasons: list[str], limits: ParityLimits, reference: str, rows: int, **figures: Any) -> ParityVerdict:
    nothing: dict[str, Any] = {"agreement": 0.0, "max_abs_logit": float("inf"), "mean_abs_logit": float("inf")}
    nothing |= {"invariance": float("inf"), "accuracy_reference": None, "accuracy": None, "accuracy_drop": None}
    nothing |= {"accuracy_drop_interval": None}
    return ParityVerdict(
        accepted=not reasons, reasons=tuple(reasons), reference=reference, rows=rows, limits=limits, **nothing | figures
    )


def _encoded_otherwise(reference: Answerer, engine: Answerer, inputs: Sequence[Any], rows: Inputs) -> list[str]:
    own = engine.encode(inputs)
    different = sum(not _same_row(rows, own, place) for place in range(len(inputs)))
    return [f"{different} of {len(inputs)} texts are encoded differently"] if different else []


def _same_row(one: Inputs, other: Inputs, place: int) -> bool:
    """Whether a row says the same, however far the batch is padded."""
    return one.keys() == other.keys() and all(_same_padded(one[name][place], other[name][place]) for name in one)


def _same_padded(one: Array, other: Array) -> bool:
    if one.shape == other.shape:
        return np.array_equal(one, other)
    both = joined([{"": one[None]}, {"": other[None]}])[""]
    return np.array_equal(both[0], both[1])


def _wrong_shapes(reference: Answerer, engine: Answerer, wanted: Outputs, seen: Outputs) -> str:
    for name in reference.signature.proved:
        tensor = next(tensor for tensor in engine.signature.outputs if tensor.name == name)
        if name not in seen or wanted[name].shape != seen[name].shape or not tensor.fits(seen[name].shape):
            shape = seen[name].shape if name in seen else "none"
            return f"{name} have shape {shape} for {list(tensor.dims)}, the reference's {wanted[name].shape}"
    return ""


def _not_finite(seen: Outputs, count: int) -> int:
    broken = np.zeros(count, dtype=np.bool_)
    for array in seen.values():
        broken |= ~np.isfinite(array).reshape(count, -1).all(axis=1)
    return int(broken.sum())


def _at_the_edges(
    reference: Answerer, engine: Answerer, inputs: Sequence[Any], limits: ParityLimits, unit: float
) -> list[str]:
    """What is wrong with rows that traffic has seldom and that break an engine first; each is asked alone."""
    reasons = []
    for what, row in reference.edges(inputs).items():
        wanted, seen = reference.engine.infer(row), engine.engine.infer(row)
        for name in reference.signature.proved:
            if not np.isfinite(wanted[name]).all():
                continue  # the model itself has no answer to it
            if not np.isfinite(seen[name]).all():
                reasons.append(f"{what} has NaN or Inf")
                continue
            apart, moved = (
                float(np.abs(wanted[name] - seen[name]).max()),
                float(shifted(wanted[name], seen[name]).max()),
            )
            limit = _EDGE_ROOM * limits.max_abs_logit * unit
            if apart > limit and moved > max(limits.probability, _EDGE_ROOM * limits.max_abs_logit / 4):
                reasons.append(f"{what} differs by {apart:.3g} (limit {limit:.3g})")
    return reasons


def _broken_rules(
    figures: Mapping[str, Any], limits: ParityLimits, rows: int, excused: Mapping[str, bool]
) -> list[str]:
    reasons: list[str] = []
    disagreeing = round((1.0 - figures["agreement"]) * rows)
    if disagreeing > max(1.0, (1.0 - limits.agreement) * rows + 1e-9):  # 1 - 0.9 is a little less than a tenth
        reasons.append(f"agreement {figures['agreement']:.4f} over {rows} texts (limit {limits.agreement})")
    unit = figures.get("unit", 1.0)
    reasons += [
        f"{name} {figures[name]:.3g} (limit {getattr(limits, name) * unit:.3g})"
        for name in ("max_abs_logit", "mean_abs_logit", "invariance")
        if not figures[name] <= getattr(limits, name) * unit and not excused.get(name, False)
    ]
    drop, interval = figures.get("accuracy_drop"), figures.get("accuracy_drop_interval")
    if drop is not None and interval is not None and drop > limits.accuracy_drop and interval[0] > 0.0:
        reasons.append(f"accuracy falls by {drop:.4f} (limit {limits.accuracy_drop}, interval {interval})")
    return reasons


def _accuracy(
    task: AnyTask, expected: Sequence[Any], answered: Sequence[Any], targets: Sequence[Any]
) -> dict[str, Any]:
    wanted, seen = (
        np.array([task.score(answer, target) for answer, target in zip(answers, targets, strict=True)], np.float64)
        for answers in (expected, answered)
    )
    drop = paired_bootstrap(wanted, seen, np.random.default_rng(0))
    return {
        "accuracy_reference": float(wanted.mean()),
        "accuracy": float(seen.mean()),
        "accuracy_drop": drop.mean,
        "accuracy_drop_interval": (drop.low, drop.high),
    }


def _invariance(engine: Engine, signature: EngineSignature, rows: Inputs) -> tuple[float, float]:
    """The largest change of a row's proved outputs between alone, beside its fellows, and padded far beyond itself.

    In logits, and in probability.
    """
    padding, count = signature.padding, row_count(rows)
    lengths = np.ones(count, dtype=np.int64) if padding is None else lengths_of(padding, rows)
    order = np.argsort(lengths, kind="stable")
    chosen = order[np.unique(np.linspace(0, count - 1, _INVARIANCE_ROWS).round().astype(int))]
    singles = [some_rows(signature, rows, np.array([row]), int(lengths[row])) for row in chosen]
    together = engine.infer(some_rows(signature, rows, chosen, int(lengths[chosen].max())))
    longest = int(lengths.max())
    wide = padded_to(signature, some_rows(signature, rows, chosen, longest), longest + 1 if longest < 8 else longest)
    answers = [engine.infer(single) for single in singles], together, engine.infer(wide)
    changes = [_apart(*answers, name) for name in signature.proved]
    return max(logits for logits, _ in changes), max(moved for _, moved in changes)


def _apart(alone: Sequence[Outputs], together: Outputs, padded: Outputs, name: str) -> tuple[float, float]:
    apart = np.concatenate([answer[name] for answer in alone])
    differences = np.maximum(np.abs(together[name] - apart), np.abs(padded[name] - apart))
    if not np.isfinite(differences).all():
        return float("inf"), float("inf")
    moved = np.maximum(shifted(apart, together[name]), shifted(apart, padded[name]))
    return float(differences.max(initial=0.0)), float(moved.max(initial=0.0))


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
