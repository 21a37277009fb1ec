"""Ranking as bundles have it: its tensors, its files, its part of the manifest, and how it is exported."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from perennial.exporters.signature import EngineSignature

__all__ = ["check_bundle", "engine_signature", "engines", "exportable"]


def engine_signature(part: Mapping[str, Any]) -> EngineSignature:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.ranking.part import RankingPart

    return RankingPart.read(part).signature


def check_bundle(folder: Path, part: Mapping[str, Any], files: Collection[str]) -> None:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.ranking.part import check_catalogue

    check_catalogue(folder, part, files)


def engines() -> tuple[tuple[str, str], ...]:
    """ONNX Runtime in FP32: many scores are equal, and others put such items in another order."""
    return (("onnxruntime", "fp32"),)


def exportable(folder: Path) -> object:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.ranking.export import RankingExportable

    return RankingExportable.load(folder)
