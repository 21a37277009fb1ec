"""What an export asks a trained model, whatever its task; `perennial.exporters.tasks` finds it by the task's name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from perennial.exporters.built import BuiltEngine
from perennial.exporters.bundle import Manifest
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.signature import EngineSignature
from perennial.exporters.tasks import room_of

if TYPE_CHECKING:
    from torch.nn import Module

    from perennial.exporters.onnx import OnnxGraph

__all__ = ["Answerer", "Exportable", "HeldOut", "KnownRows", "exportable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What was asked and, where it is known, what a right answer is measured by; one a row."""

    inputs: Sequence[Any]
    targets: Sequence[Any] | None = None

    def at(self, picks: Sequence[int]) -> "HeldOut":
        """Some of the rows.

        >>> HeldOut(inputs="abc").at([0, 2])
        HeldOut(inputs=['a', 'c'], targets=None)
        """
        return HeldOut(
            inputs=[self.inputs[index] for index in picks],
            targets=None if self.targets is None else [self.targets[index] for index in picks],
        )

    def spread(self, most: int) -> "HeldOut":
        """At most so many rows, evenly over the whole.

        >>> HeldOut(inputs="abcdef", targets=range(6)).spread(3)
        HeldOut(inputs=['a', 'c', 'e'], targets=[0, 2, 4])
        """
        step = max(1.0, len(self.inputs) / most)
        return self.at([int(index * step) for index in range(min(most, len(self.inputs)))])


class Answerer(Protocol):
    """What turns inputs into a task's answers: a trained model before any export, or a bundle."""

    @property
    def task(self) -> str:
        """The task by which its answers are scored."""
        ...

    @property
    def engine(self) -> Engine:
        """What infers."""
        ...

    @property
    def signature(self) -> EngineSignature:
        """Of the engine, with this version's sizes."""
        ...

    def encode(self, inputs: Sequence[Any]) -> Inputs:
        """The engine's inputs, one row each."""
        ...

    def edges(self, inputs: Sequence[Any]) -> Mapping[str, Inputs]:
        """Rows that an engine may break on and that `inputs` need not hold, each by itself under what it is."""
        ...

    def answers(self, outputs: Outputs) -> Sequence[Any]:
        """What the engine's outputs alone say, as `perennial.continual.task.Task` scores it."""
        ...

    def unlike(self, other: "Answerer") -> Sequence[str]:
        """What is different from another one's beside the engine, in words; nothing for the same version."""
        ...


class KnownRows(Protocol):
    """What an encoder gives for rows, run in one way: worked out once, however many heads are put on it."""

    def known(self, inputs: Sequence[Any], /) -> Sequence[int]:
        """The places of the inputs of which it is known."""
        ...

    def learn(self, inputs: Sequence[Any], /, by: Answerer) -> None:
        """Take what an engine that runs it in this way gives for the inputs."""
        ...

    def instead_of(self, engine: Engine, by: Answerer, inputs: Sequence[Any], /) -> Engine:
        """An encoder that gives what is known for these inputs, and asks the engine about any other row."""
        ...


class Exportable(Protocol):
    """A trained model on its way into a bundle."""

    @property
    def signature(self) -> EngineSignature:
        """Of its engines, with this model's sizes. The graph and the module take and give it in this order."""
        ...

    @property
    def encoder_fingerprint(self) -> str:
        """Of what it builds upon without having trained it; empty where there is nothing."""
        ...

    @property
    def longest_row(self) -> int:
        """How many places a row may be padded to; 0 where that is not bounded."""
        ...

    def sidecars(self, folder: Path) -> None:
        """Write every file of the bundle but the engine, the known answers and the manifest."""
        ...

    def part(self, folder: Path) -> Mapping[str, Any]:
        """The task's own part of the manifest, JSON values only; `folder` has the sidecars."""
        ...

    def module(self) -> "Module":
        """The FP32 torch module that every engine must answer like."""
        ...

    def graph(self, target: Path, module: "Module") -> "OnnxGraph":
        """The portable ONNX graph in the file `target`.

        Raises:
            ExportFailed: the exporter refuses the model.
        """
        ...

    def swap(self, bundle: Path, manifest: Manifest, folder: Path) -> BuiltEngine:
        """The engine of an earlier bundle in `folder`, with this model's weights.

        Raises:
            ExportFailed: it cannot take them; a full export follows.
        """
        ...

    def own_arithmetic(self, engine: Engine) -> Engine | None:
        """What this model works out itself, without torch, on what `engine` gives of the encoder; None where it cannot.

        It proves an engine whose encoder another bundle was proved with.
        """
        ...

    def exact(self, folder: Path | None) -> "KnownRows | None":
        """What is known exactly of rows that proved its encoder before, kept below `folder`; None where nothing can be.

        Without a folder nothing is kept.
        """
        ...

    def answerer(self, engine: Engine, folder: Path) -> Answerer:
        """This model with that engine; `folder` has the sidecars."""
        ...

    def read(self, path: Path, memory: Path | None = None) -> HeldOut:
        """Held-out or calibration rows out of a file; `memory` keeps what rows only name, where a task has such.

        Raises:
            DataError: it holds none.
        """
        ...

    def calibration(self, folder: Path, inputs: Sequence[Any]) -> Sequence[Sequence[int]]:
        """Token rows, unpadded, that low precisions are scaled by; empty where it comes in none."""
        ...

    def golden(self, folder: Path, seed: int) -> Sequence[Inputs]:
        """A few rows, each alone, that are nobody's: a loaded engine is asked about them. `folder` has the sidecars."""
        ...


def exportable(task: str, folder: Path) -> Exportable:
    """The trained model in `folder`, a learner's or a bundle's.

    Raises:
        ConfigurationError: no model of this task can be bundled.
        DataError: the folder holds none.
    """
    return cast("Exportable", room_of(task).exportable(folder))
