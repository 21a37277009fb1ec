"""The encoder of a folder, whatever it reads: texts, or the pictures that texts name."""

from pathlib import Path

from perennial.continual.images.preprocessing import is_image_encoder
from perennial.continual.learning.encoder import Embedder, Encoder, InBfloat16
from perennial.continual.processor import has_fast_bf16

__all__ = ["load_embedding"]


def load_embedding(
    folder: Path, *, images: Path | None, max_length: int, threads: int = 0, exact: bool = False
) -> Embedder:
    """What embeds rows: of an encoder of images the pictures below `images`, else texts, cut at `max_length` tokens.

    What is not to be `exact` may be made in bfloat16.

    Raises:
        ConfigurationError: the folder holds no encoder that can be read.
        DataError: it reads images, and there are none.
    """
    if is_image_encoder(folder):
        from perennial.continual.images.encoder import ImageEncoder

        return ImageEncoder.load(folder, images, threads=threads).embed
    encoder = Encoder.load(str(folder), max_length=max_length, threads=threads)
    return InBfloat16(encoder) if has_fast_bf16() and not exact else encoder
