"""What a manifest says of an image classifier beside what it says of every bundle."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perennial.continual.errors import BundleRejected
from perennial.exporters.image_classification.signature import IMAGE_ENGINE
from perennial.exporters.signature import EngineSignature
from perennial.exporters.tasks import read_part

__all__ = ["ImagePart"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePart:
    """How many classes and dimensions, how large a picture the engine reads, which labels and which preparation."""

    classes: int
    dimension: int
    height: int
    width: int
    max_length: int  # that of the card, which is of texts
    labels_sha256: str
    preprocessing_sha256: str

    def __post_init__(self) -> None:
        if min(self.classes, self.dimension, self.height, self.width) < 1:
            raise BundleRejected(
                f"an image classifier's classes {self.classes}, dimension {self.dimension} and size {self.height} x "
                f"{self.width} must each be at least 1; export the version again"
            )

    @classmethod
    def read(cls, part: Mapping[str, Any]) -> "ImagePart":
        """What an image classifier's manifest holds as `part`.

        Raises:
            BundleRejected: a field is missing, surplus or of the wrong kind.
        """
        return read_part(cls, part)

    @property
    def signature(self) -> EngineSignature:
        """The engine's, with these sizes."""
        return IMAGE_ENGINE.bound(classes=self.classes, dimension=self.dimension, height=self.height, width=self.width)
