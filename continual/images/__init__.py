"""Images as inputs: read within limits, kept in one form under the digest of it, and prepared for an encoder."""

from perennial.continual.images.picture import Picture, image_name, is_image_name, read_image
from perennial.continual.images.preprocessing import PREPROCESSING_FILE, Preprocessing, is_image_encoder
from perennial.continual.images.store import ImageStore

__all__ = [
    "PREPROCESSING_FILE",
    "ImageStore",
    "Picture",
    "Preprocessing",
    "image_name",
    "is_image_encoder",
    "is_image_name",
    "read_image",
]
