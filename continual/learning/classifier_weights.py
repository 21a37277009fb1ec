"""What the weights of a classifier's folder say of its head, without torch and without loading the model."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError

__all__ = ["check_classifier_weights"]

_LAST_LAYERS = frozenset(  # what transformers calls them, with a row for each label
    f"{layer}.weight"
    for layer in ("classifier", "classifier.out_proj", "classification_head.out_proj", "logits_proj", "score")
)
_TABLES = "embed"  # in the names of tables, which may have as many rows as there are labels
_KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_BFLOAT16_EXPONENT, _BFLOAT16_FRACTION = 0x7F80, 0x007F
_STEP = 1 << 22  # values


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tensor:
    """One tensor of a file, by its header; `begin` and `end` are bytes of the file."""

    file: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


def check_classifier_weights(folder: Path, labels: int) -> None:
    """Return where the folder's safetensors are whole, have a head with a row for each label, and hold numbers alone.

    Reads all weights once; about a second for a gigabyte.

    Raises:
        ConfigurationError: they do not.
    """
    tensors = [tensor for path in sorted(folder.glob("*.safetensors")) for tensor in _tensors(path)]
    last = [tensor for tensor in tensors if tensor.name in _LAST_LAYERS]
    for tensor in last:
        if tensor.shape[:1] != (labels,):
            raise ConfigurationError(
                f"{tensor.file} gives {tensor.shape[0] if tensor.shape else 1} outputs ({tensor.name}), and "
                f"config.json names {labels} labels; make id2label name each output once"
            )
    heads = last or [tensor for tensor in tensors if _may_be_head(tensor, labels)]
    if not heads:
        raise ConfigurationError(
            f"the weights in {folder} have no head that gives {labels} outputs; it would be random. Save the whole "
            "classifier with save_pretrained, not its encoder alone"
        )
    for tensor in tensors:
        if count := sum(int(wrong.sum()) for wrong in _no_numbers(tensor, infinite=tensor in heads)):
            raise ConfigurationError(
                f"{tensor.file} holds {count:,} values that are no finite numbers ({tensor.name}); its training broke, "
                "so give an earlier checkpoint"
            )


def _tensors(path: Path) -> Iterator[_Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass  # it sees to it that the header is one, and that the file is as long as it says
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(
            f"{path} holds no weights or is cut short ({error}); copy or save the model again"
        ) from error
    for name, facts in header.items():
        if name != "__metadata__":
            begin, end = (8 + length + place for place in facts["data_offsets"])
            yield _Tensor(file=path, name=name, kind=facts["dtype"], shape=tuple(facts["shape"]), begin=begin, end=end)


def _may_be_head(tensor: _Tensor, labels: int) -> bool:
    pretraining = tensor.name.startswith("cls.")  # BERT's own, which tells whether two sentences follow one another
    return len(tensor.shape) == 2 and tensor.shape[0] == labels and not pretraining and _TABLES not in tensor.name


def _no_numbers(tensor: _Tensor, *, infinite: bool) -> Iterator[NDArray[np.bool_]]:
    """Which values are none, and with `infinite` which have no end; masks are kept as infinite by some models."""
    kind = _KINDS.get(tensor.kind)
    if kind is None:  # whole numbers, and floats of eight bits, which are never served as they are
        return
    size = np.dtype(kind).itemsize
    with tensor.file.open("rb") as file:
        file.seek(tensor.begin)
        left = (tensor.end - tensor.begin) // size
        while left:
            values = np.fromfile(file, kind, min(left, _STEP))
            if not len(values):
                raise ConfigurationError(f"{tensor.file} became shorter while it was read; save the model, then go on")
            left -= len(values)
            if tensor.kind == "BF16":
                no_end = (values & _BFLOAT16_EXPONENT) == _BFLOAT16_EXPONENT
                yield no_end if infinite else no_end & ((values & _BFLOAT16_FRACTION) != 0)
            else:
                yield ~np.isfinite(values) if infinite else np.isnan(values)
