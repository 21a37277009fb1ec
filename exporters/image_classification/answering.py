"""An engine with the preparation and labels of its version: pictures in, labels out."""

from collections.abc import Sequence

import numpy as np

from perennial.continual.images import Picture, Preprocessing
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.image_classification.signature import IMAGE_ENGINE, PIXELS
from perennial.exporters.port import Answerer
from perennial.exporters.signature import EngineSignature
from perennial.exporters.text_classification.answering import unlike_labels
from perennial.exporters.text_classification.signature import LOGITS

__all__ = ["ImageAnswerer", "prepared_pixels"]


def prepared_pixels(prepared: Preprocessing, pictures: Sequence[Picture]) -> Inputs:
    """Pictures as an engine's input (rows, height, width, 3)."""
    height, width = prepared.size
    rows = [prepared.pixels(picture.pixels) for picture in pictures]
    return {PIXELS: np.stack(rows) if rows else np.zeros((0, height, width, 3), dtype=np.uint8)}


class ImageAnswerer:
    """See `perennial.exporters.port.Answerer`."""

    task = "image_classification"

    def __init__(self, *, engine: Engine, prepared: Preprocessing, labels: Sequence[str]) -> None:
        self.engine, self.prepared, self.labels = engine, prepared, tuple(labels)

    @property
    def signature(self) -> EngineSignature:
        """The engine's, with the number of labels and the size of a picture."""
        height, width = self.prepared.size
        return IMAGE_ENGINE.bound(classes=len(self.labels), height=height, width=width)

    def encode(self, inputs: Sequence[Picture]) -> Inputs:
        """The pixels of each picture."""
        return prepared_pixels(self.prepared, inputs)

    def edges(self, inputs: Sequence[Picture]) -> dict[str, Inputs]:
        """Nothing but black, and nothing but white."""
        shape = (1, *self.prepared.size, 3)
        return {name: {PIXELS: np.full(shape, value, dtype=np.uint8)} for name, value in (("black", 0), ("white", 255))}

    def answers(self, outputs: Outputs) -> list[str]:
        """The likeliest label of each row."""
        return [self.labels[index] for index in outputs[LOGITS].argmax(axis=1)]

    def unlike(self, other: Answerer) -> list[str]:
        """Labels that stand at another logit."""
        return unlike_labels(self.labels, other.labels) if isinstance(other, ImageAnswerer) else []
