"""Figures for Prometheus, read from the ledger when asked for."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from perennial.continual.drift.accuracy import AccuracyEstimate
from perennial.continual.errors import PerennialError
from perennial.ops.ledger import Ledger
from perennial.ops.views.status import ModelStatus, model_status

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["prometheus_text"]

logger = logging.getLogger(__name__)


_FIGURES = (
    ("champion_version", "Version that answers"),
    ("route_epoch", "Changes of the route so far"),
    ("labels_unlearnt", "Training rows that the champion has not learnt"),
    ("feedback_labels", "Labels and signals for predictions that are kept"),
    ("feedback_waiting", "Labels and signals whose prediction is not in the traffic log"),
    ("replay_rows", "Rows in the replay buffer"),
    ("cycle_active", "1 while a cycle is under way, its probation of days included"),
    ("drift_alert", "1 while the newest window stands in an alert"),
    ("challenger_version", "Version under comparison; 0 while there is none"),
    ("challenger_share", "Share of the requests that the challenger answers"),
    ("accuracy_estimated", "Accuracy that calibrated confidence promises; blind to a change of concept"),
    ("accuracy_estimated_low", "Lower end of the 95% interval of accuracy_estimated"),
    ("accuracy_estimated_high", "Upper end of the 95% interval of accuracy_estimated"),
    ("accuracy_measured", "Accuracy on labelled answers; of a ranking the mean NDCG@10 of lists with signals"),
    ("accuracy_measured_low", "Lower end of the 95% interval of accuracy_measured"),
    ("accuracy_measured_high", "Upper end of the 95% interval of accuracy_measured"),
)


def prometheus_text(
    ledger: Ledger, models: Sequence[str], *, restarts: int, parts: Mapping[str, bool], rows_lost: Mapping[str, int]
) -> str:
    """The exposition format. `parts` says which parts are healthy: that is told while the ledger is away, too.

    `rows_lost` counts for each model the answered rows that never reached its traffic log.
    """
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    Gauge("perennial_triton_restarts", "Restarts of the embedded Triton", registry=registry).set(restarts)
    healthy = Gauge("perennial_part_healthy", "1 while a part of the service is healthy", ["part"], registry=registry)
    for part, well in parts.items():
        healthy.labels(part=part).set(int(well))
    lost = Gauge(
        "perennial_traffic_rows_lost",
        "Answered rows that never reached the traffic log, those of killed routers included",
        ["model"],
        registry=registry,
    )
    for model, rows in rows_lost.items():
        lost.labels(model=model).set(rows)
    try:
        _add_successes(registry, ledger, models)
        _add_figures(registry, ledger, models)
    except PerennialError as exc:
        logger.warning("metrics.without_ledger", extra={"error": str(exc)})
    return generate_latest(registry).decode()


def _add_successes(registry: "CollectorRegistry", ledger: Ledger, models: Sequence[str]) -> None:
    from prometheus_client import Gauge

    success = Gauge(
        "perennial_job_last_success_timestamp_seconds",
        "Unix time at which a job last ended well; nothing before the first time",
        ["model", "job"],
        registry=registry,
    )
    names = {model.lower(): model for model in models}  # as in the names of jobs
    for row in ledger.jobs():
        job, _, name = row.name.partition(":")
        if name in names and (at := ledger.last_success(row.name)) is not None:
            success.labels(model=names[name], job=job).set(at.timestamp())


def _add_figures(registry: "CollectorRegistry", ledger: Ledger, models: Sequence[str]) -> None:
    from prometheus_client import Gauge

    gauges = {
        name: Gauge(f"perennial_{name}", description, ["model"], registry=registry) for name, description in _FIGURES
    }
    step = Gauge("perennial_cycle_step", "1 at the step that the cycle is in", ["model", "step"], registry=registry)
    for model in models:
        status = model_status(ledger, model)
        if status.unreadable:  # a figure that nobody knows is not 0
            logger.warning("metrics.model_left_out", extra={"model": model, "error": "; ".join(status.unreadable)})
            continue
        for name, value in _values(status).items():
            gauges[name].labels(model=model).set(value)
        if status.cycle is not None:
            step.labels(model=model, step=status.cycle.state).set(1)


def _values(status: ModelStatus) -> dict[str, float]:
    accuracy = status.accuracy
    return {
        "champion_version": status.champion or 0,
        "route_epoch": status.epoch,
        "labels_unlearnt": status.labels.unlearnt,
        "feedback_labels": status.labels.feedback,
        "feedback_waiting": status.labels.waiting,
        "replay_rows": status.replay_rows,
        "cycle_active": int(status.cycle is not None),
        "drift_alert": int(status.drift is not None and status.drift.state == "alert"),
        "challenger_version": status.challenger or 0,
        "challenger_share": status.share,
        **_interval("accuracy_estimated", None if accuracy is None else accuracy.estimated),
        **_interval("accuracy_measured", None if accuracy is None else accuracy.measured),
    }


def _interval(name: str, estimate: AccuracyEstimate | None) -> dict[str, float]:
    """An accuracy with its interval; NaN, which Prometheus leaves out of its graphs, while it is not known."""
    if estimate is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), float("nan"))
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
