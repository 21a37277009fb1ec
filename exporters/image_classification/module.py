"""The torch module behind a trained image classifier: encoder and head; its exported graph is clean."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from perennial.continual.errors import DataError
from perennial.continual.images.network import build_encoder, image_dimension
from perennial.exporters.module import build_head

if TYPE_CHECKING:
    import torch

__all__ = ["build_image_module"]


def build_image_module(encoder_folder: Path, head: Mapping[str, npt.NDArray[np.float32]]) -> "torch.nn.Module":
    """The FP32 module `pixels -> (logits, embedding)`, in evaluation mode; its parameters are `encoder.*`, `head.*`.

    Raises:
        ConfigurationError: the folder holds no image encoder.
        DataError: the encoder has another dimension than the head reads.
    """
    import torch

    reads = head["omega"].shape[0] if "omega" in head else head["weight"].shape[1]
    if (gives := image_dimension(encoder_folder)) != reads:
        raise DataError(f"{encoder_folder}: the head reads {reads} values, the encoder gives {gives}")
    encoder = build_encoder(encoder_folder)

    class ImageClassifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.head = build_head(head)

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            embedding = self.encoder(pixels)
            return self.head(embedding), embedding

    return ImageClassifier().eval().requires_grad_(False)
