"""A trained model as a portable ONNX graph: dynamic batch, and sequence where it has one, named weights, checked."""

import logging
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnx import numpy_helper

from perennial.continual.errors import ExportFailed
from perennial.exporters.foreign_graph import adapt_graph
from perennial.exporters.graph import (
    OnnxGraph,
    attach_sources,
    fingerprint,
    fold_transposes,
    mark_weights,
    set_initializer,
)
from perennial.exporters.module import weights_of
from perennial.exporters.text_classification.signature import ENGINE_INPUTS, ENGINE_OUTPUTS
from perennial.exporters.trained import TrainedModel

if TYPE_CHECKING:
    import torch

__all__ = ["OPSET", "OnnxGraph", "export_onnx"]

OPSET = 20  # the first with Gelu as one operator; every runtime we build for reads it
_LOG = logging.getLogger(__name__)


def export_onnx(
    model: TrainedModel,
    target: Path,
    *,
    module: "torch.nn.Module | None" = None,
    picture: Sequence[int] = (),
) -> OnnxGraph:
    """Write the graph with inputs `input_ids`, `attention_mask` and outputs `logits`, `embedding`.

    Where the module reads pictures of the shape `picture`, their `pixels` are its one input, and the head's weights
    alone keep their names. `module` spares loading the encoder again when the caller holds `model.module()` already.
    It costs 10 to 30 s of CPU.

    Raises:
        ExportFailed: the exporter or the checker refuses the model.
    """
    started = time.perf_counter()
    if model.foreign is not None:
        return adapt_graph(model.foreign, target, len(model.labels))
    module = model.module() if module is None else module
    try:
        proto = _trace_pictures(module, picture) if picture else _trace(module, model.max_length)
        named = [name for name, _ in weights_of(module) if not picture or name.startswith("head.")]
        sources = fold_transposes(proto.graph, named)
        real = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer if item.name in sources}
        mark_weights(proto, sources)
        proto = _optimise(proto)
        left = {item.name for item in proto.graph.initializer}
        for name in left & set(real):
            set_initializer(proto, name, real[name])
        attach_sources(proto, {name: source for name, source in sources.items() if name in left})
        _name_shapes(proto, picture)
        onnx.checker.check_model(proto, full_check=True)
        proto = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    except (RuntimeError, ValueError, TypeError, onnx.checker.ValidationError) as exc:
        raise ExportFailed(
            f"{model.folder}: torch.onnx cannot export the encoder {model.encoder_name!r}: {exc}"
        ) from exc
    onnx.save_model(proto, target)
    graph = OnnxGraph(
        path=target,
        fingerprint=fingerprint(proto),
        opset=OPSET,
        operators=Counter(node.op_type for node in proto.graph.node),
        seconds=time.perf_counter() - started,
    )
    _LOG.info("export.onnx_exported", extra={"seconds": graph.seconds, "nodes": sum(graph.operators.values())})
    return graph


def _trace(module: "torch.nn.Module", max_length: int) -> onnx.ModelProto:
    """The raw graph, unoptimised: an optimiser would fold transposed weights into constants without a name."""
    import torch

    ids = torch.ones((3, 7), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    batch, sequence = torch.export.Dim("batch", min=1, max=65536), torch.export.Dim("sequence", min=2, max=max_length)
    shape = {0: batch, 1: sequence}
    return _graph_of(module, (ids, mask), (shape, shape), ENGINE_INPUTS)


def _trace_pictures(module: "torch.nn.Module", picture: Sequence[int]) -> onnx.ModelProto:
    import torch

    pixels = torch.zeros((3, *picture), dtype=torch.uint8)
    return _graph_of(module, (pixels,), ({0: torch.export.Dim("batch", min=1, max=65536)},), ("pixels",))


def _graph_of(
    module: "torch.nn.Module", inputs: tuple[Any, ...], shapes: tuple[Any, ...], names: Sequence[str]
) -> onnx.ModelProto:
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
        exported = torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
        program = torch.onnx.export(
            exported,
            dynamo=True,
            input_names=list(names),
            output_names=[f"result.{name}" for name in ENGINE_OUTPUTS],
            opset_version=OPSET,
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise ExportFailed("torch.onnx.export gave no program; run it with verbose=True to see why")
    proto = program.model_proto
    # first out of the way: aten.embedding names its value "embedding"
    _rename(proto.graph, {name: f"traced.{name}" for name in ENGINE_OUTPUTS})
    _rename(proto.graph, {f"result.{name}": name for name in ENGINE_OUTPUTS})
    return proto


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                values[index] = names.get(name, name)
    for item in (*graph.output, *graph.value_info):
        item.name = names.get(item.name, item.name)


def _optimise(proto: onnx.ModelProto) -> onnx.ModelProto:
    from onnxscript import optimizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimised: onnx.ModelProto = optimizer.optimize(proto)
    return optimised


def _name_shapes(proto: onnx.ModelProto, picture: Sequence[int]) -> None:
    """State the contract's shapes on inputs and outputs and drop the tracer's own notes and names."""
    graph = proto.graph
    for item in graph.input:
        _set_dims(item, "batch", *(picture or ("sequence",)))
    for item in graph.output:
        width = item.type.tensor_type.shape.dim[1].dim_value
        _set_dims(item, "batch", width)
    del graph.value_info[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    graph.doc_string = proto.doc_string = ""


def _set_dims(item: Any, *dims: str | int) -> None:
    shape = item.type.tensor_type.shape
    del shape.dim[:]
    for dim in dims:
        if isinstance(dim, str):
            shape.dim.add(dim_param=dim)
        else:
            shape.dim.add(dim_value=dim)
