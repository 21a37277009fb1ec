"""Figures for Prometheus, read from the ledger when asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

from perennial.ops.ledger import Ledger
from perennial.ops.views.status import model_status

__all__ = ["prometheus_text"]


def prometheus_text(ledger: Ledger, models: Sequence[str], *, restarts: int) -> str:
    """The exposition format."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    Gauge("perennial_triton_restarts", "Restarts of the embedded Triton", registry=registry).set(restarts)
    gauges = {
        name: Gauge(f"perennial_{name}", told, ["model"], registry=registry)
        for name, told in (
            ("champion_version", "Version that answers"),
            ("route_epoch", "Changes of the route so far"),
            ("labels_unlearnt", "Training labels that the champion has not learnt"),
            ("feedback_labels", "Labels received for predictions"),
            ("replay_rows", "Rows in the replay buffer"),
            ("cycle_active", "1 while a cycle is under way"),
            ("drift_alert", "1 while the newest window stands in an alert"),
            ("accuracy_estimated", "Accuracy that calibrated confidence promises; blind to a change of concept"),
            ("accuracy_measured", "Accuracy on labelled answers"),
        )
    }
    for model in models:
        status = model_status(ledger, model)
        values = {
            "champion_version": status["champion"] or 0,
            "route_epoch": status["epoch"],
            "labels_unlearnt": status["labels"]["unlearnt"],
            "feedback_labels": status["labels"]["feedback"],
            "replay_rows": status["replay_rows"],
            "cycle_active": int(status["cycle"] is not None),
            "drift_alert": int((status["drift"] or {}).get("state") == "alert"),
            **{f"accuracy_{name}": _accuracy(status, name) for name in ("estimated", "measured")},
        }
        for name, value in values.items():
            gauges[name].labels(model=model).set(value)
    return generate_latest(registry).decode()


def _accuracy(status: Mapping[str, Any], name: str) -> float:
    """One of the champion's accuracies; NaN, which Prometheus leaves out of its graphs, while it is not known."""
    told = (status["accuracy"] or {}).get(name)
    return float("nan") if told is None else float(told["value"])
