"""Pictures of rows turned into embeddings, for a training."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.images.network import build_encoder, image_dimension
from perennial.continual.images.preprocessing import Preprocessing
from perennial.continual.images.store import ImageStore

__all__ = ["ImageEncoder"]

_BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEncoder:
    """A frozen network of images, and where the pictures lie that rows name."""

    module: Any = field(repr=False)  # torch.nn.Module
    prepared: Preprocessing
    store: ImageStore
    dimension: int

    @classmethod
    def load(cls, folder: Path, images: Path | None, *, threads: int = 0) -> "ImageEncoder":
        """The encoder of a folder, for the pictures below `images`.

        Raises:
            ConfigurationError: the folder holds no image encoder.
            DataError: there are no pictures.
        """
        import torch

        if images is None:
            raise DataError(f"the encoder in {folder} reads images, and the rows are texts; give an encoder of texts")
        if threads:
            torch.set_num_threads(threads)
        return cls(
            module=build_encoder(folder),
            prepared=Preprocessing.read(folder),
            store=ImageStore(images),
            dimension=image_dimension(folder),
        )

    def embed(self, names: Sequence[str]) -> NDArray[np.float32]:
        """The embeddings of the pictures of these names, float32 (names, d), rows of length 1, in the order given.

        Raises:
            DataError: a picture is not there.
        """
        import torch

        out = np.empty((len(names), self.dimension), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(names), _BATCH):
                part = np.stack([self._pixels(name) for name in names[start : start + _BATCH]])
                out[start : start + len(part)] = self.module(torch.from_numpy(part)).numpy()
        return out

    def _pixels(self, name: str) -> NDArray[np.uint8]:
        picture = self.store.get(name)
        if picture is None:
            raise DataError(
                f"{name} is not in {self.store.folder}, or is damaged; restore the folder, or erase the row"
            )
        return self.prepared.pixels(picture.pixels)
