"""What every engine is to its callers, whatever compiled it."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from perennial.exporters.signature import Array

__all__ = ["Engine", "Inputs", "Outputs"]

Inputs = Mapping[str, Array]
Outputs = Mapping[str, Array]


@runtime_checkable
class Engine(Protocol):
    """A loaded engine."""

    def infer(self, inputs: Inputs) -> Outputs:
        """The outputs of the signature for its inputs, rows first; may be called from many threads."""
        ...
