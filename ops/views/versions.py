"""What an operator sees of a version."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from perennial.ops.ledger import VersionRow

__all__ = ["VersionDetails", "VersionView", "version_details", "version_view"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    """One version, its labels counted rather than listed; `metrics` and `lineage` are what its making noted."""

    model: str
    version: int
    state: str
    parent: int | None
    cycle_id: int | None
    learner: str | None
    encoder_fingerprint: str | None
    metrics: Mapping[str, Any]
    lineage: Mapping[str, Any]
    bundle_sha256: str | None
    created_at: datetime | None
    published_at: datetime | None
    state_at: datetime | None
    classes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDetails(VersionView):
    """One version with its labels."""

    labels: tuple[str, ...]


def version_view(row: VersionRow) -> VersionView:
    """Return what a list of versions shows of one."""
    return VersionView(**_seen(row))


def version_details(row: VersionRow) -> VersionDetails:
    """Return everything known about a version."""
    return VersionDetails(**_seen(row), labels=row.labels)


def _seen(row: VersionRow) -> Mapping[str, Any]:
    same = {each.name: getattr(row, each.name) for each in fields(VersionView) if hasattr(row, each.name)}
    return same | {"state": row.state.value, "classes": len(row.labels)}
