"""Fuses attention for ONNX Runtime: its own optimiser finds none in a dynamo-exported graph, so we say where it is."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from perennial.exporters.graph import Source, attach_sources, read_sources
from perennial.exporters.text_classification.signature import ATTENTION_MASK

__all__ = ["fuse_attention"]

_DOMAIN = "com.microsoft"
_OF_PLACES = frozenset({"Range", "Trilu", "CumSum"})


class _Index:
    """Who makes and who reads each value of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.makers = {name: node for node in graph.node for name in node.output}
        self.values = {item.name: item for item in graph.initializer}

    def up(self, name: str, *path: str) -> onnx.NodeProto | None:
        """The node reached from value `name` by walking first inputs through nodes of the stated types."""
        node: onnx.NodeProto | None = None
        for kind in path:
            node = self.makers.get(name)
            if node is None or node.op_type != kind:
                return None
            name = node.input[0]
        return node

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The value's initializer, when it has one."""
        return numpy_helper.to_array(self.values[name]) if name in self.values else None


def fuse_attention(model: onnx.ModelProto) -> int:
    """Replace each projected softmax(QK'/sqrt(d))V by one `com.microsoft.Attention`, in place; returns how many.

    Q, K and V weights become one initializer per layer, and the sources in the metadata say so. The raw
    `attention_mask` feeds the operator, so the additive mask disappears. A layer that does not match is left as it is.
    """
    graph, sources = model.graph, read_sources(model)
    index = _Index(graph)
    fused = 0
    for node in [item for item in graph.node if item.op_type == "Softmax"]:
        fused += _fuse_one(graph, index, node, sources)
    if fused:
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
        _prune(graph)
        left = {item.name for item in graph.initializer}
        attach_sources(model, {name: source for name, source in sources.items() if name in left})
    return fused


def _fuse_one(graph: onnx.GraphProto, index: _Index, softmax: onnx.NodeProto, sources: dict[str, Source]) -> int:
    mask_add = index.up(softmax.input[0], "Add")
    scale_mul = index.up(softmax.input[0], "Add", "Mul")
    scores = index.up(softmax.input[0], "Add", "Mul", "MatMul")
    context = _reader(graph, softmax.output[0], "MatMul")
    if mask_add is None or scale_mul is None or scores is None or context is None:
        return 0
    if _depends_on_places(
        index, mask_add.input[1]
    ):  # causal, or within a window: the operator's mask is of tokens alone
        return 0
    turned = _reader(graph, context.output[0], "Transpose")
    merged = _reader(graph, turned.output[0], "Reshape") if turned is not None else None
    if merged is None:
        return 0
    paths: Mapping[str, tuple[str, tuple[str, ...]]] = {
        "query": (scores.input[0], ("Transpose", "Reshape", "Add")),
        "key": (scores.input[1], ("Transpose", "Reshape", "Add")),
        "value": (context.input[1], ("Transpose", "Reshape", "Add")),
    }
    added = [index.up(start, *path) for start, path in paths.values()]
    products = [index.up(node.input[0], "MatMul") for node in added if node is not None]
    joined = [node for node in products if node is not None]
    scale = index.constant(scale_mul.input[1])
    if len(joined) != 3 or scale is None or len({node.input[0] for node in joined}) != 1:
        return 0
    first = index.constant(joined[0].input[1])
    heads = _heads(index, scores.input[0], first.shape[-1]) if first is not None else 0
    if heads == 0:
        return 0
    stem = merged.output[0]
    weight = _join(graph, index, [node.input[1] for node in joined], f"{stem}.qkv.weight", sources)
    bias = _join(graph, index, [node.input[1] for node in added if node is not None], f"{stem}.qkv.bias", sources)
    if not weight or not bias:
        return 0
    mask = _integer_mask(graph)
    attention = helper.make_node(
        "Attention", [joined[0].input[0], weight, bias, mask], [stem], name=f"fused.{stem}", domain=_DOMAIN,
        num_heads=heads, scale=float(scale.reshape(-1)[0]), mask_filter_value=-1e4,
    )  # fmt: skip
    position = list(graph.node).index(merged)
    graph.node.remove(merged)
    graph.node.insert(position, attention)
    return 1


def _depends_on_places(index: _Index, name: str) -> bool:
    """Whether a value is made of the tokens' places, and not of which of them are there."""
    todo, seen = [name], set[str]()
    while todo:
        node = index.makers.get(todo.pop())
        if node is None or node.output[0] in seen:
            continue
        if node.op_type in _OF_PLACES:
            return True
        seen.add(node.output[0])
        todo += node.input
    return False


def _heads(index: _Index, query: str, width: int) -> int:
    """The number of heads from the Reshape to (batch, sequence, heads, d) of the query; 0 if unclear."""
    reshape = index.up(query, "Transpose", "Reshape")
    shape = index.makers.get(reshape.input[1]) if reshape is not None else None
    if shape is None or shape.op_type != "Concat":
        return 0
    known = [index.constant(name) for name in shape.input]
    tail = [int(size) for part in known if part is not None for size in part.reshape(-1)][-1:]
    return width // tail[0] if tail and tail[0] > 0 and width % tail[0] == 0 else 0


def _join(graph: onnx.GraphProto, index: _Index, names: list[str], joined: str, sources: dict[str, Source]) -> str:
    """A new initializer of three joined on the last axis, with its source; '' when they are no plain weights."""
    parts = [index.constant(name) for name in names]
    arrays = [part for part in parts if part is not None]
    if len(arrays) != 3 or any(name not in sources for name in names):
        return ""
    if len({sources[name].transposed for name in names}) != 1:
        return ""
    parameters = tuple(parameter for name in names for parameter in sources[name].parameters)
    sources[joined] = Source(parameters=parameters, transposed=sources[names[0]].transposed)
    graph.initializer.append(numpy_helper.from_array(np.concatenate(arrays, axis=-1), joined))
    return joined


def _integer_mask(graph: onnx.GraphProto) -> str:
    name = f"{ATTENTION_MASK}.int32"
    if all(name not in node.output for node in graph.node):
        cast = helper.make_node(
            "Cast", [ATTENTION_MASK], [name], name=f"cast.{ATTENTION_MASK}", to=onnx.TensorProto.INT32
        )
        graph.node.insert(0, cast)
    return name


def _reader(graph: onnx.GraphProto, name: str, kind: str) -> onnx.NodeProto | None:
    """The only node that reads `name`, when it is of this kind."""
    readers = [node for node in graph.node if name in node.input]
    return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None


def _prune(graph: onnx.GraphProto) -> None:
    """Drop nodes and initializers that no output needs."""
    needed = {item.name for item in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [item for item in graph.initializer if item.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)
