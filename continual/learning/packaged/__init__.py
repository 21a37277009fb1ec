"""Encoders that were installed with this package: found by name, without a model hub."""

from perennial.continual.learning.packaged.conversion import e5_tokenizer
from perennial.continual.learning.packaged.names import (
    PACKAGED_E5,
    PACKAGED_LITE0,
    PACKAGED_MINILM,
    e5_named,
    is_packaged,
)
from perennial.continual.learning.packaged.place import at_hand, packaged_folder
from perennial.continual.learning.packaged.scripts import SCRIPTS, script_of, scripts_of

__all__ = [
    "PACKAGED_E5",
    "PACKAGED_LITE0",
    "PACKAGED_MINILM",
    "SCRIPTS",
    "at_hand",
    "e5_named",
    "e5_tokenizer",
    "is_packaged",
    "packaged_folder",
    "script_of",
    "scripts_of",
]
