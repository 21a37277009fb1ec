"""Figures for Prometheus, read from the ledger when asked for."""

from collections.abc import Sequence

from ops.ledger import Ledger
from ops.status import model_status

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
        }
        for name, value in values.items():
            gauges[name].labels(model=model).set(value)
    return generate_latest(registry).decode()
