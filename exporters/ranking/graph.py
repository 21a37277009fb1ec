"""The best items of a catalogue as an ONNX graph: ties of what was liked, summed, what is hidden left out, top k."""

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from perennial.continual.errors import ConfigurationError, ExportFailed
from perennial.exporters.graph import OnnxGraph, Source, attach_sources, fingerprint
from perennial.exporters.ranking.signature import (
    BOOSTED,
    BOOSTS,
    HIDDEN,
    LIKED,
    PLACES,
    POPULAR,
    RANKED,
    UNKNOWN,
    UNKNOWN_VALUES,
    VALUES,
    WEIGHTS,
)
from perennial.exporters.ranking.ties import ItemTies

__all__ = ["HIDDEN_SCORE", "list_lengths", "swap_item_graph", "write_item_graph"]

HIDDEN_SCORE = -1e30  # inside, of an item that must not be shown
_OPSET = 18
_TABLES = ("tie_places", "tie_values", "popularity", "strange")


def list_lengths(items: int, *, most: int = PLACES, strangers: int = 1) -> tuple[int, int]:
    """How many items the graph of a catalogue gives a row: the best, and the best of those that nobody knows.

    Raises:
        ConfigurationError: one is less than 1.
    """
    if most < 1 or strangers < 1:
        raise ConfigurationError(f"a graph for the best {most} items and {strangers} unknown ones; ask for 1 or more")
    return min(most, items), min(strangers, items)


def write_item_graph(
    ties: ItemTies, path: Path, *, known_from: float = 0.0, most: int = PLACES, strangers: int = 1
) -> OnnxGraph:
    """Write the graph.

    Inputs, rows first, each padded with zeros, which say nothing: `liked` INT64 [B,H] and `weights` FP32 [B,H], rows of
    the ties and how much each counts; `hidden` INT64 [B,M], items that are not shown, and `boosted` INT64 [B,W] with
    `boosts` FP32 [B,W], what is added to items, both counted from 1; `popular` FP32 [B,1], what the most liked item's
    popularity adds. Outputs: `items` INT64 [B,k] and `scores` FP32 [B,k], and the same of items that are not known;
    where fewer than k may be shown, the item is -1 and its score 0.

    Args:
        ties: of the catalogue.
        path: where.
        known_from: users from which an item is known.
        most: k, at most the number of items.
        strangers: the k of unknown items.

    Raises:
        ConfigurationError: a k is less than 1.
    """
    started = time.perf_counter()
    proto = _model(ties, known_from, list_lengths(ties.items, most=most, strangers=strangers))
    onnx.save_model(proto, path)
    return OnnxGraph(
        path=path,
        fingerprint=fingerprint(proto),
        opset=_OPSET,
        operators=Counter(node.op_type for node in proto.graph.node),
        seconds=time.perf_counter() - started,
    )


def swap_item_graph(
    ties: ItemTies, path: Path, *, of: str, known_from: float = 0.0, most: int = PLACES, strangers: int = 1
) -> None:
    """Write a graph that differs in its numbers alone from the one with the fingerprint `of`.

    Raises:
        ExportFailed: the catalogue or its lists have another size.
    """
    proto = _model(ties, known_from, list_lengths(ties.items, most=most, strangers=strangers))
    if fingerprint(proto) != of:
        raise ExportFailed(f"the catalogue of {ties.items} items does not fit the earlier graph; export in full")
    onnx.save_model(proto, path)


def _model(ties: ItemTies, known_from: float, lengths: tuple[int, int]) -> onnx.ModelProto:
    table = ties.neighbours
    nothing = np.zeros(1, np.float32)  # before the first item: it takes what pads a row
    known = np.where(ties.unknown(known_from), 0.0, HIDDEN_SCORE)
    constants: Mapping[str, NDArray[Any]] = {
        "tie_places": table.places.astype(np.int32) + 1,
        "tie_values": table.values.astype(np.float32),
        "popularity": np.concatenate([nothing, table.popular]).astype(np.float32)[None, :],
        "strange": known.astype(np.float32)[None, :],
        "flat": np.array([0, -1], dtype=np.int64),
        "last_axis": np.array([2], dtype=np.int64),
        "first": np.array([1], dtype=np.int64),
        "end": np.array([ties.items + 1], dtype=np.int64),
        "axis": np.array([1], dtype=np.int64),
        "low": np.array(HIDDEN_SCORE, dtype=np.float32),
        "half_low": np.array(HIDDEN_SCORE / 2, dtype=np.float32),
        "no_item": np.array(-1, dtype=np.int64),
        "no_score": np.array(0.0, dtype=np.float32),
        "count": np.array([lengths[0]], dtype=np.int64),
        "count_of_strange": np.array([lengths[1]], dtype=np.int64),
    }
    nodes = [
        helper.make_node("MatMul", [POPULAR, "popularity"], ["base"]),  # (B, 1 + items)
        helper.make_node("Gather", ["tie_places", LIKED], ["near32"], axis=0),  # (B, H, ties)
        helper.make_node("Cast", ["near32"], ["near"], to=TensorProto.INT64),
        helper.make_node("Gather", ["tie_values", LIKED], ["strength"], axis=0),
        helper.make_node("Unsqueeze", [WEIGHTS, "last_axis"], ["weight"]),
        helper.make_node("Mul", ["strength", "weight"], ["moved"]),
        helper.make_node("Reshape", ["near", "flat"], ["where"]),  # (B, H x ties)
        helper.make_node("Reshape", ["moved", "flat"], ["added"]),
        helper.make_node("ScatterElements", ["base", "where", "added"], ["tied"], axis=1, reduction="add"),
        helper.make_node("ScatterElements", ["tied", BOOSTED, BOOSTS], ["summed"], axis=1, reduction="add"),
        helper.make_node("Shape", [HIDDEN], ["hidden_shape"]),
        helper.make_node("Expand", ["low", "hidden_shape"], ["lows"]),
        helper.make_node("ScatterElements", ["summed", HIDDEN, "lows"], ["shown"], axis=1),
        helper.make_node("Slice", ["shown", "first", "end", "axis"], ["ranked"]),
        *_best("ranked", "count", RANKED, VALUES),
        helper.make_node("Add", ["ranked", "strange"], ["ranked_strange"]),
        *_best("ranked_strange", "count_of_strange", UNKNOWN, UNKNOWN_VALUES),
    ]
    graph = helper.make_graph(
        nodes,
        "best_items",
        [
            helper.make_tensor_value_info(LIKED, TensorProto.INT64, ["batch", "history"]),
            helper.make_tensor_value_info(WEIGHTS, TensorProto.FLOAT, ["batch", "history"]),
            helper.make_tensor_value_info(HIDDEN, TensorProto.INT64, ["batch", "excluded"]),
            helper.make_tensor_value_info(BOOSTED, TensorProto.INT64, ["batch", "wanted"]),
            helper.make_tensor_value_info(BOOSTS, TensorProto.FLOAT, ["batch", "wanted"]),
            helper.make_tensor_value_info(POPULAR, TensorProto.FLOAT, ["batch", 1]),
        ],
        [
            helper.make_tensor_value_info(RANKED, TensorProto.INT64, ["batch", lengths[0]]),
            helper.make_tensor_value_info(VALUES, TensorProto.FLOAT, ["batch", lengths[0]]),
            helper.make_tensor_value_info(UNKNOWN, TensorProto.INT64, ["batch", lengths[1]]),
            helper.make_tensor_value_info(UNKNOWN_VALUES, TensorProto.FLOAT, ["batch", lengths[1]]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    attach_sources(model, {name: Source(parameters=(name,)) for name in _TABLES})
    onnx.checker.check_model(model)
    return model


def _best(scores: str, count: str, items: str, values: str) -> list[onnx.NodeProto]:
    """The best of some scores, without those that must not be shown."""
    return [
        helper.make_node("TopK", [scores, count], [f"{values}_found", f"{items}_found"], axis=1, largest=1, sorted=1),
        helper.make_node("Greater", [f"{values}_found", "half_low"], [f"{items}_may"]),
        helper.make_node("Where", [f"{items}_may", f"{items}_found", "no_item"], [items]),
        helper.make_node("Where", [f"{items}_may", f"{values}_found", "no_score"], [values]),
    ]
