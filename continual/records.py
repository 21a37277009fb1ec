"""The nouns of the loop: immutable, checked when they are made."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from perennial.continual.errors import DataError

__all__ = ["Arm", "Example", "Origin", "PromotionDecision", "Route", "Split", "check_storable", "fields_known_to"]

_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


class Split(StrEnum):
    """What a labelled row may be used for; decided by a stable hash of its text, never by chance."""

    TRAIN = "train"
    HOLDOUT = "holdout"


class Origin(StrEnum):
    """Where a labelled row came from."""

    SEED = "seed"
    FEEDBACK = "feedback"
    IMPORT = "import"
    LABELLER = "labeller"

    @classmethod
    def named(cls, name: object) -> Self:
        """The origin of this name.

        Raises:
            DataError: there is none.
        """
        try:
            return cls(str(name))
        except ValueError:
            raise DataError(f"an origin is {name!r}; use one of {', '.join(cls)}") from None


class Arm(StrEnum):
    """Which side of the route answered a request; a fallback is the champion in place of a failing challenger."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One labelled text. `redacted` tells that personal data was taken out of it before it was kept.

    `attributes` say whose it is, by the names that a model's settings declare; no model is given them.

    >>> from datetime import datetime, timezone
    >>> Example(text="card lost", label="lost_card", at=datetime(2026, 1, 1, tzinfo=timezone.utc)).origin.value
    'seed'
    """

    text: str
    label: str
    at: datetime
    origin: Origin = Origin.SEED
    key: str | None = None
    prediction_id: str | None = None
    redacted: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.label or self.label != self.label.strip():
            raise DataError(f"an example's label is {self.label!r}; it must be non-empty without outer spaces")
        if not self.text.strip():
            raise DataError(f"an example labelled {self.label!r} has empty text; drop the row or give it text")
        for name in ("text", "label", "key", "prediction_id"):
            check_storable(f"an example's {name}", getattr(self, name))
        for name, value in self.attributes.items():
            check_storable(f"an example's {name}", value)
        if self.at.tzinfo is None:
            raise DataError(f"an example's time {self.at.isoformat()} has no time zone; give UTC, e.g. {self.at}+00:00")

    @property
    def input(self) -> str:
        """What was asked, as `perennial.continual.task.Row` calls it."""
        return self.text

    @property
    def target(self) -> str:
        """What a right answer is measured by."""
        return self.label


def check_storable(name: str, value: str | None) -> None:
    r"""Refuse what no database can hold: a NUL, or half of a surrogate pair.

    Raises:
        DataError: the value holds one; it is named by its place, never quoted.

    >>> check_storable("a key", "caller-7")
    """
    match = None if value is None else _NOT_STORABLE.search(value)
    if match is not None:
        raise DataError(
            f"{name} holds U+{ord(match[0]):04X} at character {match.start()}, which no database keeps; send UTF-8 text"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Which versions of one model answer, and with what share.

    `epoch` grows by one with every change, so that a late writer can be told apart. `share` is the challenger's part
    of the live requests in [0, 1]. `resident` are the versions that Triton must hold loaded.
    """

    model: str
    epoch: int
    champion: int
    previous: int | None = None
    challenger: int | None = None
    share: float = 0.0
    resident: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.champion < 1 or self.epoch < 1:
            raise DataError(
                f"route of {self.model}: champion {self.champion} and epoch {self.epoch} must be at least 1"
            )
        if not (math.isfinite(self.share) and 0.0 <= self.share <= 1.0):
            raise DataError(f"route of {self.model}: share {self.share} must lie in [0, 1]")
        if self.share > 0 and self.challenger is None:
            raise DataError(f"route of {self.model}: share {self.share} needs a challenger")
        missing = {v for v in (self.champion, self.previous, self.challenger) if v is not None} - set(self.resident)
        if missing:
            raise DataError(f"route of {self.model}: versions {sorted(missing)} must be in resident {self.resident}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionDecision:
    """The gate's answer: whether the challenger may replace the champion, and why not."""

    champion: int
    challenger: int
    accepted: bool
    reasons: tuple[str, ...]  # one per failed rule; empty when accepted
    figures: dict[str, float]  # what the rules looked at, by name

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The decision whose fields stand in a document."""
        return cls(**{**document, "reasons": tuple(document["reasons"])})


def fields_known_to(kind: type[Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """What a document has for a record of this kind; what a later release added to it is left out."""
    known = {each.name for each in fields(kind)}
    return {name: value for name, value in kept.items() if name in known}
