"""What every engine is to its callers, whatever compiled it."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from perennial.exporters.signature import Array

__all__ = ["Engine", "Inputs", "Outputs", "Resting", "Settling"]

Inputs = Mapping[str, Array]
Outputs = Mapping[str, Array]


@runtime_checkable
class Engine(Protocol):
    """A loaded engine."""

    def infer(self, inputs: Inputs) -> Outputs:
        """The outputs of the signature for its inputs, rows first; may be called from many threads."""
        ...


@runtime_checkable
class Resting(Protocol):
    """An engine that can do with less memory while nothing is asked."""

    def rest(self) -> None:
        """Let go of what the next question can make again, which then takes longer; a question meanwhile is answered.

        Twice is as once.
        """
        ...


@runtime_checkable
class Settling(Protocol):
    """An engine that keeps what large batches were computed in, for the next ones."""

    def settle(self) -> bool:
        """Let go of what nothing that was asked since the last call had need of; returns whether that was much.

        A question meanwhile is answered. A batch that is as large as earlier ones takes longer once.
        """
        ...
