"""FP32 to FP16 or BF16 inside an ONNX graph, by operator and place, with the casts written out."""

from typing import Any

import numpy as np

from perennial.continual.errors import ExportFailed
from perennial.exporters.text_classification.signature import EMBEDDING

__all__ = ["narrow"]

_PRODUCTS = {"MatMul", "Gemm"}
_FOLLOWERS = {  # cheap in half precision and safe there; all else (norms, softmax, sums, exp) stays FP32
    "Add", "Concat", "Div", "Erf", "Expand", "Gather", "Gelu", "Mul", "Neg", "Relu", "Reshape", "Slice", "Split",
    "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
}  # fmt: skip
_HEAD_STARTS_AT = EMBEDDING


def narrow(model: Any, kind: int) -> None:
    """Rewrite `model` in place so that the encoder's products and what lies between them compute in `kind`.

    The head and the pooling before it stay FP32: they are small, and calibrated probabilities leave there. Values
    beyond the range of `kind` (the attention mask's most negative number) are clamped to it, because an infinity times
    zero would make a whole row undefined.

    Raises:
        ExportFailed: the graph has control flow, or no `embedding` output to find the head by.
    """
    import onnx

    if any(attribute.type in {5, 10} for node in model.graph.node for attribute in node.attribute):
        raise ExportFailed(
            "the graph has control flow (If, Loop or Scan), which has no typed conversion; export without"
        )
    if _HEAD_STARTS_AT not in {output.name for output in model.graph.output}:
        raise ExportFailed(f"the graph has no output {_HEAD_STARTS_AT!r}; export it with the engine contract's outputs")
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    floats = _float_values(inferred)
    low = _low_nodes(model)
    _Rewriter(model, kind, floats, low).run()


def _float_values(model: Any) -> set[str]:
    from onnx import TensorProto

    graph = model.graph
    values = [*graph.value_info, *graph.input, *graph.output]
    names = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _low_nodes(model: Any) -> set[int]:
    """Indices of the nodes to narrow: products outside the head, and followers that lead to one of them."""
    nodes = model.graph.node
    head = _head_nodes(nodes)
    low: set[int] = set()
    leads: set[str] = set()  # values that reach a narrowed product
    for index in range(len(nodes) - 1, -1, -1):  # an ONNX graph is sorted, so backwards sees consumers first
        node = nodes[index]
        if index in head:
            continue
        reaches = any(name in leads for name in node.output)
        if node.op_type in _PRODUCTS or (node.op_type in _FOLLOWERS and reaches):
            low.add(index)
        if node.op_type in _PRODUCTS or reaches:
            leads.update(name for name in node.input if name)
    return low


def _head_nodes(nodes: Any) -> set[int]:
    """Everything that reads the embedding, directly or not."""
    tainted, head = {_HEAD_STARTS_AT}, set()
    for index, node in enumerate(nodes):
        if tainted.intersection(node.input):
            head.add(index)
            tainted.update(node.output)
    return head


class _Rewriter:
    """One pass over the nodes in order: every value has one type, and readers of another type get a cast."""

    def __init__(self, model: Any, kind: int, floats: set[str], low: set[int]) -> None:
        self._graph = model.graph
        self._kind = kind
        self._floats = floats
        self._low = low
        self._narrowed: set[str] = set()  # values now of the low type
        self._casts: dict[tuple[str, int], str] = {}
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._nodes: list[Any] = []

    def run(self) -> None:
        nodes = list(self._graph.node)
        wanted_high = {name for index, node in enumerate(nodes) if index not in self._low for name in node.input}
        for tensor in self._weights.values():
            self._clamp(tensor)
        for index, node in enumerate(nodes):
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t"):
                    self._clamp(attribute.t)
            if index in self._low:
                self._rewrite_low(node, wanted_high)
            else:
                self._rewrite_high(node)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]  # stale types; whoever needs them infers them anew

    def _rewrite_low(self, node: Any, wanted_high: set[str]) -> None:
        for position, name in enumerate(node.input):
            if name not in self._floats or name in self._narrowed:
                continue
            weight = self._weights.get(name)
            if weight is not None and name not in wanted_high:
                self._convert(weight)
                self._narrowed.add(name)
            else:
                node.input[position] = self._cast(name, self._kind)
        self._nodes.append(node)
        outputs = {output.name for output in self._graph.output}
        for position, name in enumerate(node.output):
            if name not in self._floats:
                continue
            if name in outputs:  # the contract's outputs stay FP32
                node.output[position] = f"{name}__low"
                self._narrowed.add(node.output[position])
                self._append_cast(node.output[position], name, 1)
            else:
                self._narrowed.add(name)

    def _rewrite_high(self, node: Any) -> None:
        for position, name in enumerate(node.input):
            if name in self._narrowed:
                node.input[position] = self._cast(name, 1)  # 1 is TensorProto.FLOAT
        self._nodes.append(node)

    def _cast(self, name: str, kind: int) -> str:
        key = (name, kind)
        if key not in self._casts:
            self._casts[key] = f"{name}__as_{'float' if kind == 1 else 'low'}"
            self._append_cast(name, self._casts[key], kind)
        return self._casts[key]

    def _append_cast(self, source: str, target: str, kind: int) -> None:
        from onnx import helper

        self._nodes.append(helper.make_node("Cast", [source], [target], name=f"{target}__cast", to=kind))

    def _clamp(self, tensor: Any) -> None:
        from onnx import TensorProto, numpy_helper

        if tensor.data_type != TensorProto.FLOAT:
            return
        values = numpy_helper.to_array(tensor)
        limit = 65504.0 if self._kind == TensorProto.FLOAT16 else 3.3895313892515355e38
        if values.size and np.nanmax(np.abs(values)) > limit:
            tensor.CopyFrom(numpy_helper.from_array(np.clip(values, -limit, limit).astype(np.float32), tensor.name))

    def _convert(self, tensor: Any) -> None:
        from onnx import helper, numpy_helper

        values = numpy_helper.to_array(tensor)
        kind = helper.tensor_dtype_to_np_dtype(self._kind)
        raw = values.astype(kind).tobytes()
        name, shape = tensor.name, values.shape
        tensor.CopyFrom(helper.make_tensor(name, self._kind, shape, raw, raw=True))
