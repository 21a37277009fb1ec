"""How the service and a model are, as the control API tells it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .control import Request

__all__ = ["ModelStatus", "ServiceHealth", "health_request", "status_request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """One model now. `document` is the whole answer, for what has no field of its own."""

    model: str
    champion: int | None  # the version that answers
    previous: int | None
    challenger: int | None
    share: float  # of the requests that the challenger answers
    cycle: str | None  # what the cycle under way does
    drift: str | None  # the newest window's verdict
    training_rows: int
    holdout_rows: int
    unlearnt_labels: int
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHealth:
    """Whether everything works. `document` tells it by part, and why, to whoever has a token."""

    healthy: bool
    document: Mapping[str, Any]


def status_request(model: str) -> Request[ModelStatus]:
    """Asks how a model is."""
    return Request(method="GET", path=f"/v1/models/{quote(model, safe='')}", read=_status)


def health_request() -> Request[ServiceHealth]:
    """Asks how the service is; one that is not well answers too."""
    return Request(method="GET", path="/healthz", read=_health, also=frozenset({503}))


def _status(answer: Any) -> ModelStatus:
    cycle, drift, labels = answer["cycle"], answer["drift"], answer["labels"]
    return ModelStatus(
        model=answer["model"],
        champion=answer["champion"],
        previous=answer["previous"],
        challenger=answer["challenger"],
        share=answer["share"],
        cycle=None if cycle is None else cycle["state"],
        drift=None if drift is None else drift["state"],
        training_rows=labels["training"],
        holdout_rows=labels["holdout"],
        unlearnt_labels=labels["unlearnt"],
        document=answer,
    )


def _health(answer: Any) -> ServiceHealth:
    return ServiceHealth(healthy=bool(answer["healthy"]), document=answer)
