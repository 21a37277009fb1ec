"""How the parts of a running service are, in the order in which a person should look at them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PartRow", "part_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRow:
    """One part; times are seconds, and None where they are not known."""

    part: str
    healthy: bool
    last_s: float | None = None  # since it last did its work
    limit_s: float | None = None  # after so long that is too long ago
    error: str = ""
    note: str = ""


def part_rows(health: Mapping[str, Any]) -> tuple[PartRow, ...]:
    """The parts that `/healthz` tells of, the unhealthy ones first.

    >>> parts = {"disk": {"healthy": True}, "ledger": {"healthy": False, "error": "gone"}}
    >>> told = {"triton": {"healthy": True, "restarts": 0, "servers": {}}, "scheduler": {"healthy": True}}
    >>> [row.part for row in part_rows({**told, "models": {"intent": {"healthy": True}}, "parts": parts})]
    ['ledger', 'triton', 'scheduler', 'model:intent', 'disk']
    """
    rows = [_triton(health["triton"]), _row("scheduler", health["scheduler"])]
    rows += [_model(name, told) for name, told in health["models"].items()]
    rows += [_row(name, part) for name, part in health["parts"].items()]
    return tuple(sorted(rows, key=lambda row: row.healthy))


def _row(name: str, told: Mapping[str, Any]) -> PartRow:
    known = {field: told[field] for field in ("last_s", "limit_s", "error", "note") if field in told}
    return PartRow(part=name, healthy=told["healthy"], **known)


def _model(name: str, told: Mapping[str, Any]) -> PartRow:
    wrong = [f"{where}: {what}" for where, what in told.get("wrong", {}).items()]
    if (loop := told.get("loop")) is not None:
        wrong.append(f"it is not watched and retrained: {loop}")
    return PartRow(part=f"model:{name}", healthy=told["healthy"], error="; ".join(wrong))


def _triton(told: Mapping[str, Any]) -> PartRow:
    wrong = "; ".join(f"{url}: {what}" for url, what in told["servers"].items() if what != "ok")
    restarts = told["restarts"]
    note = f"{restarts} restarts" if restarts else ""
    return PartRow(part="triton", healthy=told["healthy"], error=wrong, note=note)
