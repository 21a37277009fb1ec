"""How a running service is, as `/healthz` and `/healthz/ready` tell it, and in which order a person should look."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = [
    "ControlView",
    "HealthNames",
    "HealthView",
    "ModelHealth",
    "PartRow",
    "PartView",
    "ReadyName",
    "ReadyView",
    "SchedulerView",
    "ServiceStatus",
    "TritonView",
    "names_of",
    "part_rows",
    "read_health",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartView:
    """One part: healthy or not, how long ago it did its work, and after how long that is too long; None is not told."""

    healthy: bool
    last_s: float | None = None
    limit_s: float | None = None
    error: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerView(PartView):
    """The scheduler, and whether this process leads."""

    leading: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonView:
    """The inference servers: `ok` by address, or what is wrong with one."""

    healthy: bool
    restarts: int
    servers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHealth:
    """One model by itself: where and why it is not served, and why it is not watched and retrained."""

    healthy: bool
    wrong: Mapping[str, str] | None = None
    loop: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """Every part of a running service; `unhealthy` names those that are not well."""

    healthy: bool
    unhealthy: tuple[str, ...]
    triton: TritonView
    models: Mapping[str, ModelHealth]
    scheduler: SchedulerView
    parts: Mapping[str, PartView]
    uptime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthNames:
    """What a stranger may know: that the process lives, and which parts are well; no error, path or address."""

    live: bool = True
    healthy: bool
    unhealthy: tuple[str, ...]
    parts: Mapping[str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyName:
    """What a stranger may know: whether models are answered."""

    ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRow:
    """One part; times are seconds, and None where they are not known."""

    part: str
    healthy: bool
    last_s: float | None = None  # since it last did its work
    limit_s: float | None = None  # after so long that is too long ago
    error: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """The parts of the service, the unhealthy ones first."""

    healthy: bool
    parts: tuple[PartRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlView:
    """Whether control operations can be taken."""

    ready: bool
    ledger: PartView


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyView:
    """Whether each model is answered: `ok` by model, or what is wrong with it; `failing` tells it by server."""

    ready: bool
    serving: Mapping[str, str]
    failing: Mapping[str, Mapping[str, str]]
    control: ControlView


def names_of(health: HealthView) -> HealthNames:
    """Return what a stranger may know."""
    parts = {name: part.healthy for name, part in health.parts.items()}
    parts |= {"triton": health.triton.healthy, "scheduler": health.scheduler.healthy}
    parts |= {f"model:{name}": model.healthy for name, model in health.models.items()}
    return HealthNames(healthy=health.healthy, unhealthy=health.unhealthy, parts=parts)


def part_rows(health: HealthView) -> tuple[PartRow, ...]:
    """Return the parts, the unhealthy ones first.

    >>> parts = {"disk": {"healthy": True}, "ledger": {"healthy": False, "error": "gone"}}
    >>> seen = {"triton": {"healthy": True, "restarts": 0, "servers": {}}, "scheduler": {"healthy": True}}
    >>> [row.part for row in part_rows(read_health({**seen, "models": {"intent": {"healthy": True}}, "parts": parts}))]
    ['ledger', 'triton', 'scheduler', 'model:intent', 'disk']
    """
    rows = [_triton(health.triton), _row("scheduler", health.scheduler)]
    rows += [_model(name, model) for name, model in health.models.items()]
    rows += [_row(name, part) for name, part in health.parts.items()]
    return tuple(sorted(rows, key=lambda row: row.healthy))


def read_health(document: Mapping[str, Any]) -> HealthView:
    """Read what `/healthz` told as JSON; the process that told it may be of another release."""
    triton = document["triton"]
    return HealthView(
        healthy=document.get("healthy", False),
        unhealthy=tuple(document.get("unhealthy", ())),
        triton=TritonView(healthy=triton["healthy"], restarts=triton["restarts"], servers=triton["servers"]),
        models={name: ModelHealth(**_known(ModelHealth, model)) for name, model in document["models"].items()},
        scheduler=SchedulerView(**{"leading": False, **_known(SchedulerView, document["scheduler"])}),
        parts={name: PartView(**_known(PartView, part)) for name, part in document["parts"].items()},
        uptime_s=document.get("uptime_s", 0.0),
    )


def _known(kind: type[ModelHealth | PartView], document: Mapping[str, Any]) -> Mapping[str, Any]:
    return {each.name: document[each.name] for each in fields(kind) if each.name in document}


def _row(name: str, part: PartView) -> PartRow:
    return PartRow(
        part=name,
        healthy=part.healthy,
        last_s=part.last_s,
        limit_s=part.limit_s,
        error=part.error or "",
        note=part.note or "",
    )


def _model(name: str, model: ModelHealth) -> PartRow:
    wrong = [f"{where}: {what}" for where, what in (model.wrong or {}).items()]
    if model.loop is not None:
        wrong.append(f"it is not watched and retrained: {model.loop}")
    return PartRow(part=f"model:{name}", healthy=model.healthy, error="; ".join(wrong))


def _triton(triton: TritonView) -> PartRow:
    wrong = "; ".join(f"{url}: {what}" for url, what in triton.servers.items() if what != "ok")
    note = f"{triton.restarts} restarts" if triton.restarts else ""
    return PartRow(part="triton", healthy=triton.healthy, error=wrong, note=note)
