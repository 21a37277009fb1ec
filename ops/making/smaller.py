"""The table of a compression: what was tried, how much smaller and faster each is, and what it loses."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from perennial.continual.atomic_file import write_atomically
from perennial.continual.intervals import Interval
from perennial.ops.making.kept_report import kept_report
from perennial.ops.store.workspace import Workspace

__all__ = ["Compression", "SmallerModel", "keep_compression", "kept_compression"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallerModel:
    """One point of the table. `lost_points` is beside the source as it is, on the same held-out rows."""

    step: str
    engine: str
    megabytes: float
    rows_per_s: dict[str, float]
    times_faster: float | None
    accuracy: float | None
    lost_points: Interval | None
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """The table, and the version that was published of the best point; None where no point keeps the bound."""

    model: str
    source: int
    most_lost_points: float
    points: tuple[SmallerModel, ...]
    chosen: str | None
    version: int | None


def keep_compression(workspace: Workspace, made: Compression) -> None:
    """Keep the table of a version that was published; it holds figures alone."""
    if made.version is not None:
        path = _path(workspace, made.model, made.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(made), ensure_ascii=False))


def kept_compression(workspace: Workspace, model: str, version: int) -> Compression | None:
    """The table that a version came out of; None of any other, or where another release wrote it otherwise."""
    return kept_report(_path(workspace, model, version), Compression)


def _path(workspace: Workspace, model: str, version: int) -> Path:
    return workspace.reports(model) / f"compression-{version}.json"
