"""ONNX graphs whose weights keep their names: where each initializer comes from, and a fingerprint of the rest."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from perennial.continual.errors import ExportFailed

__all__ = [
    "OnnxGraph",
    "Source",
    "attach_sources",
    "fingerprint",
    "fold_transposes",
    "mark_weights",
    "read_sources",
    "set_initializer",
]

_KEY = "perennial.weights"
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxGraph:
    """An exported graph on disk; `operators` counts its nodes by type."""

    path: Path
    fingerprint: str
    opset: int
    operators: Mapping[str, int]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """How an initializer is made of a module's parameters: each transposed or not, then joined on the last axis."""

    parameters: tuple[str, ...]
    transposed: bool = False

    @property
    def is_head(self) -> bool:
        """Whether it belongs to the head, whose class dimension may grow."""
        return all(name.startswith("head.") for name in self.parameters)

    def build(self, parameters: Mapping[str, Array]) -> Array:
        """The initializer's value.

        Raises:
            ExportFailed: a parameter is not among `parameters`.
        """
        missing = [name for name in self.parameters if name not in parameters]
        if missing:
            raise ExportFailed(f"the new weights lack {missing}, which the graph needs; export in full instead")
        parts = [parameters[name].T if self.transposed else parameters[name] for name in self.parameters]
        return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1))


def attach_sources(model: onnx.ModelProto, sources: Mapping[str, Source]) -> None:
    """Write the sources into the model's metadata, replacing what was there."""
    kept = [entry for entry in model.metadata_props if entry.key != _KEY]
    record = {name: [list(source.parameters), source.transposed] for name, source in sorted(sources.items())}
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=_KEY, value=json.dumps(record))


def read_sources(model: onnx.ModelProto) -> dict[str, Source]:
    """Initializer name to source.

    Raises:
        ExportFailed: the graph was not exported by this product.
    """
    for entry in model.metadata_props:
        if entry.key == _KEY:
            raw = json.loads(entry.value)
            return {name: Source(parameters=tuple(names), transposed=turn) for name, (names, turn) in raw.items()}
    raise ExportFailed(f"the graph has no {_KEY!r} in its metadata, so its weights cannot be named; export in full")


def fold_transposes(graph: onnx.GraphProto, parameters: Iterable[str]) -> dict[str, Source]:
    """Fold `Transpose(parameter)` into an initializer `<parameter>.T`, so that no optimiser folds it namelessly.

    Returns the source of every initializer that is a parameter.
    """
    known = set(parameters)
    values = {item.name: item for item in graph.initializer}
    folded: dict[str, str] = {}  # output of the Transpose -> name of the new initializer
    kept = []
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] in known and node.input[0] in values:
            array = numpy_helper.to_array(values[node.input[0]])
            if array.ndim == 2:
                folded[node.output[0]] = f"{node.input[0]}.T"
                continue
        kept.append(node)
    for node in kept:
        for index, name in enumerate(node.input):
            node.input[index] = folded.get(name, name)
    del graph.node[:]
    graph.node.extend(kept)
    for name in dict.fromkeys(folded.values()):
        array = numpy_helper.to_array(values[name.removesuffix(".T")])
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array.T), name))
    _drop_unused(graph)
    left = {item.name for item in graph.initializer}
    turned = {name: Source(parameters=(name.removesuffix(".T"),), transposed=True) for name in folded.values()}
    return turned | {name: Source(parameters=(name,)) for name in known & left}


def mark_weights(model: onnx.ModelProto, names: Iterable[str]) -> dict[str, Array]:
    """Put noise of its own into each named initializer and return what was put in.

    Optimisers and converters merge constants that are equal (biases of 0, gains of 1 in a fresh model), after which
    they could not be given different values again. Marked weights are never equal.
    """
    generator = np.random.default_rng(0)
    wanted, marks = set(names), {}
    for item in model.graph.initializer:
        if item.name in wanted:
            marks[item.name] = np.asarray(generator.random(tuple(item.dims), dtype=np.float32))
            item.CopyFrom(numpy_helper.from_array(marks[item.name], item.name))
    return marks


def fingerprint(model: onnx.ModelProto) -> str:
    """SHA-256 of the graph without its weights: two graphs with one fingerprint differ in weights alone.

    It covers inputs, outputs, nodes with attributes, opsets, the constants' values, and each weight's name, type and
    shape, except that the class dimension of the head and of `logits` is left out: a grown label set keeps the print.
    """
    sources = read_sources(model)
    state = hashlib.sha256()
    for opset in sorted(f"{item.domain}:{item.version}" for item in model.opset_import):
        state.update(opset.encode())
    for node in model.graph.node:
        attributes = sorted(node.attribute, key=lambda item: str(item.name))
        parts = [node.domain, node.op_type, *node.input, "->", *node.output]
        state.update("\x1f".join(parts).encode())
        for attribute in attributes:
            state.update(attribute.SerializeToString(deterministic=True))
    for item in sorted(model.graph.initializer, key=lambda entry: str(entry.name)):
        source = sources.get(item.name)
        state.update(f"{item.name}\x1f{item.data_type}".encode())
        if source is None:
            state.update(str(list(item.dims)).encode() + numpy_helper.to_array(item).tobytes())
        else:
            state.update(str(_fixed_shape(source, list(item.dims))).encode())
    return state.hexdigest()


def set_initializer(model: onnx.ModelProto, name: str, value: Array) -> None:
    """Replace the value of one initializer; its element type stays, its shape may change."""
    for item in model.graph.initializer:
        if item.name == name:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(item.data_type)
            item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value.astype(dtype)), name))
            return
    raise ExportFailed(f"the graph has no initializer {name!r}; export in full instead")


def _fixed_shape(source: Source, dims: list[int]) -> list[int | str]:
    """The shape with the class dimension of head.weight (C, ·) and head.bias (C,) left open."""
    shape: list[int | str] = list(dims)
    if source.is_head and source.parameters[0] in {"head.weight", "head.bias"}:
        shape[-1 if source.transposed else 0] = "classes"
    return shape


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}
    kept = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
