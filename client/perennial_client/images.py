"""Image classification: files of images in, labels with their probabilities out, as those of texts are."""

from collections.abc import Sequence

import numpy as np

from .errors import BadInput
from .tensors import Array
from .texts import FURTHER, USUAL

__all__ = ["FURTHER", "USUAL", "image_tensors"]

IMAGE = "IMAGE"


def image_tensors(images: Sequence[bytes]) -> dict[str, Array]:
    """A request about images, each the bytes of a JPEG or PNG file.

    Raises:
        BadInput: one is not bytes.
    """
    for row, image in enumerate(images):
        if not isinstance(image, bytes):
            raise BadInput(f"{IMAGE} of row {row} is {type(image).__name__}; send the bytes of a JPEG or PNG file")
    tensor = np.empty((len(images), 1), dtype=object)
    tensor[:, 0] = images
    return {IMAGE: tensor}
