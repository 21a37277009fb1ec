"""Ranking as bundles have it: its tensors, its files, its part of the manifest, and how it is exported."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from perennial.exporters.signature import EngineSignature

__all__ = ["check_bundle", "engine_signature", "exportable"]


def engine_signature(part: Mapping[str, Any]) -> EngineSignature:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.ranking.part import RankingPart

    return RankingPart.read(part).signature


def check_bundle(folder: Path, part: Mapping[str, Any], files: Collection[str]) -> None:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.ranking.part import check_catalogue

    check_catalogue(folder, part, files)


def exportable(folder: Path) -> object:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.ranking.export import RankingExportable

    return RankingExportable.load(folder)
