"""The real TensorRT for RTX, spoken to as TensorRT."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from perennial.exporters.tensorrt.flavour import Flavour, speak

__all__ = ["spoken_rtx"]


@contextmanager
def spoken_rtx() -> Iterator[Any]:
    """The library, as what `import tensorrt` means for as long as the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "tensorrt", raising=False)
        speak(Flavour.RTX)
        yield sys.modules["tensorrt"]
        del sys.modules["tensorrt"]
