"""Image classification as bundles have it: its tensors, its files, its part of the manifest, and how it is exported."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from perennial.exporters.signature import EngineSignature

__all__ = ["check_bundle", "engine_signature", "engines", "exportable"]


def engine_signature(part: Mapping[str, Any]) -> EngineSignature:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.image_classification.part import ImagePart

    return ImagePart.read(part).signature


def check_bundle(folder: Path, part: Mapping[str, Any], files: Collection[str]) -> None:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.image_classification.part import ImagePart
    from perennial.exporters.text_classification.part import check_same_labels

    told = ImagePart.read(part)
    check_same_labels(folder, told.classes, told.labels_sha256, files)


def engines() -> tuple[tuple[str, str], ...]:
    """Those of a CPU in FP32, and OpenVINO's in BF16."""
    return (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))


def exportable(folder: Path) -> object:
    """See `perennial.exporters.tasks.Room`."""
    from perennial.exporters.image_classification.export import ImageExportable

    return ImageExportable.load(folder)
