"""Generation as bundles have it: its tensors, its files, its part of the manifest, and how it is exported."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from perennial.exporters.signature import EngineSignature

__all__ = ["check_bundle", "engine_signature", "engines", "exportable"]


def engine_signature(part: Mapping[str, Any]) -> EngineSignature:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.generation.part import GenerationPart

    return GenerationPart.read(part).signature


def check_bundle(folder: Path, part: Mapping[str, Any], files: Collection[str]) -> None:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.generation.part import check_decoder

    check_decoder(folder, part, files)


def engines() -> tuple[tuple[str, str], ...]:
    """What one token at a time was proved in."""
    return (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))


def exportable(folder: Path) -> object:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.generation.export import GenerationExportable

    return GenerationExportable.load(folder)
