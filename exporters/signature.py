"""What a model takes and gives, by name. ONNX graphs, `config.pbtxt`, golden answers and every call derive from it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from perennial.continual.errors import ConfigurationError

__all__ = [
    "BOOL",
    "BYTES",
    "FP32",
    "INT32",
    "INT64",
    "UINT8",
    "Array",
    "EngineSignature",
    "Padding",
    "RouterSignature",
    "Tensor",
]

Array = npt.NDArray[Any]
BOOL, BYTES, FP32, INT32, INT64, UINT8 = "BOOL", "BYTES", "FP32", "INT32", "INT64", "UINT8"  # KServe's words
_NUMPY: Mapping[str, Any] = {
    BOOL: np.bool_,
    BYTES: np.object_,
    FP32: np.float32,
    INT32: np.int32,
    INT64: np.int64,
    UINT8: np.uint8,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """What one tensor holds a row. A dimension with a name varies: with the request, or with the model's version."""

    name: str
    datatype: str
    dims: tuple[int | str, ...] = (1,)
    optional: bool = False

    def __post_init__(self) -> None:
        if self.datatype not in _NUMPY:
            raise ConfigurationError(f"tensor {self.name} has datatype {self.datatype!r}; known are {sorted(_NUMPY)}")

    @property
    def config_type(self) -> str:
        """The datatype as `config.pbtxt` writes it.

        >>> Tensor(name="TEXT", datatype=BYTES).config_type, Tensor(name="VERSION", datatype=INT64).config_type
        ('TYPE_STRING', 'TYPE_INT64')
        """
        return "TYPE_STRING" if self.datatype == BYTES else f"TYPE_{self.datatype}"

    @property
    def config_dims(self) -> tuple[int, ...]:
        """The dimensions as `config.pbtxt` writes them: -1 for those that vary."""
        return tuple(-1 if isinstance(dim, str) else dim for dim in self.dims)

    @property
    def numpy_type(self) -> Any:
        """The type of its arrays."""
        return _NUMPY[self.datatype]

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape, rows first, is one of these.

        >>> logits = Tensor(name="logits", datatype=FP32, dims=(3,))
        >>> logits.fits((8, 3)), logits.fits((8, 4)), logits.fits((8,))
        (True, False, False)
        """
        if len(shape) != 1 + len(self.dims):
            return False
        for dim, size in zip(self.dims, shape[1:], strict=True):
            if dim != size and not isinstance(dim, str):
                return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Padding:
    """How rows of different lengths share a batch: zeros behind each, and an input that says what is real.

    `dim` is the dimension that is padded, `mask` the input that holds 1 where a row goes on; no row is cut below
    `least`.
    """

    dim: str
    mask: str
    least: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSignature:
    """An engine's tensors, rows first. `proved` are the outputs that golden answers and parity look at."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    proved: tuple[str, ...]
    padding: Padding | None = None

    def __post_init__(self) -> None:
        names = [tensor.name for tensor in (*self.inputs, *self.outputs)]
        if len(set(names)) != len(names) or not self.inputs or not set(self.proved) <= set(self.output_names):
            raise ConfigurationError(
                f"an engine with inputs {self.input_names} and outputs {self.output_names} that proves {self.proved}: "
                "names must differ and what is proved must be an output"
            )

    @property
    def input_names(self) -> tuple[str, ...]:
        """What it takes, in the order of the module's arguments."""
        return tuple(tensor.name for tensor in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """What it gives, in the order of the module's results."""
        return tuple(tensor.name for tensor in self.outputs)

    def bound(self, **sizes: int) -> "EngineSignature":
        """The same for one version, whose dimensions of these names are known."""

        def known(tensor: Tensor) -> Tensor:
            return replace(
                tensor, dims=tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in tensor.dims)
            )

        return replace(self, inputs=tuple(map(known, self.inputs)), outputs=tuple(map(known, self.outputs)))

    def misfit(self, outputs: Mapping[str, Array], rows: int) -> str:
        """What is wrong with the outputs for so many rows: a shape, or what is not finite; empty where nothing is."""
        for tensor in self.outputs:
            name = tensor.name
            array, proved = outputs.get(name), name in self.proved
            if array is None:
                return f"no {name}"
            if len(array) != rows or (proved and not tensor.fits(array.shape)):
                return f"{name} of shape {array.shape} for {rows} rows of {list(tensor.dims)}"
            if proved and tensor.datatype == FP32 and not np.isfinite(array).all():
                return f"{name} that is not finite"
        return ""

    def to_record(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "EngineSignature":
        """What `to_record` gave, after JSON."""
        return cls(
            inputs=tuple(_tensor(tensor) for tensor in record["inputs"]),
            outputs=tuple(_tensor(tensor) for tensor in record["outputs"]),
            proved=tuple(record["proved"]),
            padding=None if record["padding"] is None else Padding(**record["padding"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSignature:
    """What clients send to a task's models and get, beside what every model has: key, version, id and arm.

    `usual` is sent when nothing is asked for by name, `further` only when it is.
    """

    inputs: tuple[Tensor, ...]
    usual: tuple[Tensor, ...]
    further: tuple[Tensor, ...] = ()


def _tensor(record: Mapping[str, Any]) -> Tensor:
    return Tensor(**{**record, "dims": tuple(record["dims"])})
