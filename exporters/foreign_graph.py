"""A classifier that comes as an ONNX file of somebody else's exporter: its inputs and outputs under our names."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, helper

from perennial.continual.errors import ConfigurationError
from perennial.exporters.graph import OnnxGraph, attach_sources, fingerprint
from perennial.exporters.text_classification.signature import (
    ATTENTION_MASK,
    EMBEDDING,
    ENGINE_INPUTS,
    INPUT_IDS,
    LOGITS,
)

if TYPE_CHECKING:
    import torch

__all__ = ["adapt_graph", "foreign_module"]

_KINDS = "token_type_ids"
_INTEGERS = (TensorProto.INT64, TensorProto.INT32)


def adapt_graph(source: Path, target: Path, classes: int) -> OnnxGraph:
    """Write the graph with our inputs and outputs; what it computes stays as it is.

    Token types, where they are asked for, are 0. A file like this has no embedding of a text to show, so the logits,
    brought to length 1, stand for it: drift is watched in them.

    Raises:
        ConfigurationError: it has other inputs, or its output is no row of logits for these classes.
    """
    started = time.perf_counter()
    proto = onnx.load(source)
    graph = proto.graph
    _adapt_inputs(source, graph)
    _adapt_output(source, graph, classes)
    graph.node.append(helper.make_node("LpNormalization", [LOGITS], [EMBEDDING], name=EMBEDDING, axis=-1, p=2))
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", classes]))
    attach_sources(proto, {})
    onnx.checker.check_model(proto)
    onnx.save_model(proto, target)
    return OnnxGraph(
        path=target,
        fingerprint=fingerprint(proto),
        opset=next((item.version for item in proto.opset_import if item.domain in {"", "ai.onnx"}), 0),
        operators=Counter(node.op_type for node in graph.node),
        seconds=time.perf_counter() - started,
    )


def foreign_module(source: Path) -> "torch.nn.Module":
    """What every engine must answer like: the file itself, as it came, in ONNX Runtime."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    wanted = {item.name: item.type for item in session.get_inputs()}
    output = _chosen([item.name for item in session.get_outputs()], source)

    class Foreign(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            tensors = {INPUT_IDS: input_ids, ATTENTION_MASK: attention_mask, _KINDS: torch.zeros_like(input_ids)}
            feed = {
                name: tensors[name].to(torch.int32 if "int32" in kind else torch.int64).numpy()
                for name, kind in wanted.items()
            }
            logits = torch.from_numpy(session.run([output], feed)[0])
            return logits, torch.nn.functional.normalize(logits, dim=-1)

    return Foreign().eval()


def _adapt_inputs(source: Path, graph: onnx.GraphProto) -> None:
    weights = {item.name for item in graph.initializer}
    given = {item.name: item for item in graph.input if item.name not in weights}
    unknown = sorted(given.keys() - {*ENGINE_INPUTS, _KINDS})
    odd = sorted(name for name, item in given.items() if item.type.tensor_type.elem_type not in _INTEGERS)
    if unknown or odd or not given.keys() >= {*ENGINE_INPUTS}:
        raise ConfigurationError(
            f"{source} has the inputs {sorted(given)}, of which {unknown or odd or 'too few'} cannot be fed; "
            f"it must have {INPUT_IDS} and {ATTENTION_MASK}, and may have {_KINDS}, of whole numbers"
        )
    first: list[onnx.NodeProto] = []
    for name, item in given.items():
        narrow = item.type.tensor_type.elem_type == TensorProto.INT32
        inner = f"given.{name}"
        if name == _KINDS:
            first += [
                helper.make_node("Sub", [INPUT_IDS, INPUT_IDS], [f"{inner}.wide"], name=f"{inner}.wide"),
                helper.make_node("Cast", [f"{inner}.wide"], [inner], name=inner, to=item.type.tensor_type.elem_type),
            ]
        elif narrow:
            first.append(helper.make_node("Cast", [name], [inner], name=inner, to=TensorProto.INT32))
        else:
            continue
        for node in graph.node:
            for place, read in enumerate(node.input):
                if read == name:
                    node.input[place] = inner
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    kept = [item for item in graph.input if item.name in weights]
    del graph.input[:]
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in ENGINE_INPUTS
    )
    graph.input.extend(kept)


def _adapt_output(source: Path, graph: onnx.GraphProto, classes: int) -> None:
    """Keep the logits alone and call them so."""
    chosen = _chosen([item.name for item in graph.output], source)
    shape = next(item for item in graph.output if item.name == chosen).type.tensor_type.shape
    width = shape.dim[-1].dim_value if shape.dim else 0
    if len(shape.dim) != 2 or width not in {0, classes}:
        dims: Sequence[Any] = [dim.dim_value or dim.dim_param for dim in shape.dim]
        raise ConfigurationError(
            f"{source}: {chosen} has shape {dims}; there are {classes} labels, so it must be [B, {classes}]"
        )
    if chosen != LOGITS:
        for node in graph.node:
            for values in (node.input, node.output):
                for place, name in enumerate(values):
                    values[place] = {chosen: LOGITS, LOGITS: f"inner.{LOGITS}"}.get(name, name)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", classes]))


def _chosen(names: Sequence[str], source: Path) -> str:
    if LOGITS in names:
        return LOGITS
    if len(names) == 1:
        return names[0]
    raise ConfigurationError(
        f"{source} has the outputs {list(names)}; one of them must be called {LOGITS}, or be the only one"
    )
