"""A decoder as a portable ONNX graph with its keys and values going in and coming out."""

import logging
import time
import warnings
from collections import Counter
from pathlib import Path

import onnx
import torch

from perennial.continual.errors import ExportFailed
from perennial.exporters.generation.module import DecoderModule
from perennial.exporters.generation.steps import IDS, NEXT, PLACES, past_names, present_names
from perennial.exporters.graph import OnnxGraph, attach_sources, fingerprint
from perennial.exporters.onnx import OPSET

__all__ = ["write_decoder_graph"]

_PAST, _NEW = 5, 3  # tokens of the example that is traced


def write_decoder_graph(module: DecoderModule, target: Path) -> OnnxGraph:
    """Write the graph of one step.

    Raises:
        ExportFailed: the exporter or the checker refuses the decoder.
    """
    started, part = time.perf_counter(), module.part
    names = past_names(part.layers)
    ids = torch.ones((1, _NEW), dtype=torch.int64)
    places = torch.arange(_PAST, _PAST + _NEW)[None]
    past = [torch.zeros((1, part.heads, _PAST, part.width)) for _ in names]
    before, new = (
        torch.export.Dim("past", min=0, max=part.positions),
        torch.export.Dim("new", min=1, max=part.positions),
    )
    shapes = ({1: new}, {1: new}, tuple({2: before} for _ in names))
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
            exported = torch.export.export(module.one, (ids, places, *past), dynamic_shapes=shapes, strict=False)
            program = torch.onnx.export(
                exported,
                dynamo=True,
                input_names=[IDS, PLACES, *names],
                output_names=[NEXT, *present_names(part.layers)],
                opset_version=OPSET,
                optimize=True,
                verbose=False,
            )
        if program is None:
            raise ExportFailed("torch.onnx.export gave no program; run it with verbose=True to see why")
        proto = program.model_proto
        attach_sources(proto, {})  # no weight is ever changed in place
        onnx.checker.check_model(proto)
    except (RuntimeError, ValueError, TypeError, onnx.checker.ValidationError) as exc:
        raise ExportFailed(f"torch.onnx cannot export this decoder: {exc}") from exc
    onnx.save_model(proto, target)
    return OnnxGraph(
        path=target,
        fingerprint=fingerprint(proto),
        opset=OPSET,
        operators=Counter(node.op_type for node in proto.graph.node),
        seconds=time.perf_counter() - started,
    )
