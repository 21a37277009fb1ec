"""What a message says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from perennial.continual.errors import DataError

__all__ = ["Message", "Severity"]


class Severity(StrEnum):
    """How soon somebody should look."""

    INFO = "info"
    WARNING = "warning"
    ALERT = "alert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One thing to tell. The same `model`, `alert` and `episode` are told once on each channel.

    `episode` names what goes on, e.g. the cycle's id or the time at which drift left ok.
    """

    model: str
    alert: str  # what kind of thing, e.g. drift, refused, promoted, approval
    episode: str
    title: str
    at: datetime
    body: str = ""
    severity: Severity = Severity.WARNING
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("model", "alert", "episode", "title"):
            value = getattr(self, name)
            if not value or "\n" in value or "\r" in value:
                raise DataError(f"a message's {name} is {value!r}; it must be one non-empty line")

    def values(self) -> dict[str, Any]:
        """Return the message as plain JSON values."""
        return {
            "model": self.model,
            "alert": self.alert,
            "episode": self.episode,
            "severity": self.severity.value,
            "title": self.title,
            "body": self.body,
            "at": self.at.isoformat(),
            "facts": dict(self.facts),
        }
