"""Encoders that were installed with this package: found by name, without a model hub."""

from perennial.continual.learning.packaged.names import PACKAGED_E5, PACKAGED_MINILM, e5_named, is_packaged
from perennial.continual.learning.packaged.place import packaged_folder
from perennial.continual.learning.packaged.scripts import scripts_of

__all__ = ["PACKAGED_E5", "PACKAGED_MINILM", "e5_named", "is_packaged", "packaged_folder", "scripts_of"]
