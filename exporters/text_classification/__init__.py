"""Text classification as bundles have it: its tensors, its files, its part of the manifest, and how it is exported."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from perennial.exporters.signature import EngineSignature

__all__ = ["check_bundle", "engine_signature", "engines", "exportable"]


def engine_signature(part: Mapping[str, Any]) -> EngineSignature:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.text_classification.part import TextPart

    return TextPart.read(part).signature


def check_bundle(folder: Path, part: Mapping[str, Any], files: Collection[str]) -> None:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.text_classification.part import check_labels

    check_labels(folder, part, files)


def engines() -> tuple[tuple[str, str], ...]:
    """Every engine takes it."""
    return ()


def exportable(folder: Path) -> object:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.text_classification.export import TextExportable

    return TextExportable.load(folder)
