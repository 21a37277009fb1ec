"""Figures for Prometheus, read from the ledger when asked for."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from statistics import quantiles
from typing import TYPE_CHECKING

from perennial.continual.drift.accuracy import AccuracyEstimate
from perennial.continual.errors import PerennialError
from perennial.ops.ledger import Ledger
from perennial.ops.prediction_ids import id_time_us
from perennial.ops.views.answer_times import BOUNDS_S, ArmTimes
from perennial.ops.views.status import ModelStatus, model_status

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

__all__ = ["prometheus_text"]

logger = logging.getLogger(__name__)
_LATEST_LABELS = 200  # whose lag is told

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
    ledger: Ledger,
    models: Sequence[str],
    *,
    restarts: int,
    parts: Mapping[str, bool],
    rows_lost: Mapping[str, int],
    answered: Mapping[str, Sequence[ArmTimes]],
) -> str:
    """The exposition format. `parts` says which parts are healthy: that is told while the ledger is away, too.

    `rows_lost` counts for each model the answered rows that never reached its traffic log; `answered` has the times of
    those that did.
    """
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    registry.register(_AnswerTimes(answered))
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


class _AnswerTimes:
    """A histogram whose counts were made elsewhere, as prometheus-client collects them."""

    def __init__(self, answered: Mapping[str, Sequence[ArmTimes]]) -> None:
        self._answered = answered

    def collect(self) -> Iterator["Metric"]:
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(
            "perennial_answer_duration_seconds",
            "Time that a version took for an answer, a minute after it was asked; without the wait for its turn",
            labels=["model", "version", "arm"],
        )
        for model, arms in self._answered.items():
            for times in arms:
                sums = [float(count) for count in accumulate(times.buckets)]
                bounds = [*(repr(bound) for bound in BOUNDS_S), "+Inf"]
                labels = [model, str(times.version), times.arm]
                family.add_metric(labels, list(zip(bounds, sums, strict=True)), sum_value=times.seconds)
        yield family


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
    lag = Gauge(
        "perennial_label_lag_seconds",
        "From an answer to its label, of the newest 200 labels and signals; nothing before the first one",
        ["model", "quantile"],
        registry=registry,
    )
    for model in models:
        for quantile, seconds in _label_lags(ledger, model).items():
            lag.labels(model=model, quantile=quantile).set(seconds)
        status = model_status(ledger, model)
        if status.unreadable:  # a figure that nobody knows is not 0
            logger.warning("metrics.model_left_out", extra={"model": model, "error": "; ".join(status.unreadable)})
            continue
        for name, value in _values(status).items():
            gauges[name].labels(model=model).set(value)
        if status.cycle is not None:
            step.labels(model=model, step=status.cycle.state).set(1)


def _label_lags(ledger: Ledger, model: str) -> dict[str, float]:
    """Median and ninth decile of the newest labels' lags in seconds; clocks that disagree make none negative."""
    made = [(row.received_at, id_time_us(row.prediction_id)) for row in ledger.newest_feedback(model, _LATEST_LABELS)]
    lags = [max(0.0, came.timestamp() - at_us / 1e6) for came, at_us in made if at_us is not None]
    if not lags:
        return {}
    deciles = quantiles(lags, n=10, method="inclusive") if len(lags) > 1 else lags * 9
    return {"0.5": deciles[4], "0.9": deciles[8]}


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
