"""The best items of a catalogue as an ONNX graph: ties of what was liked, summed, what is hidden left out, top k."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.ranking import Neighbours

__all__ = ["HIDDEN_SCORE", "INPUTS", "OUTPUTS", "item_inputs", "write_item_graph"]

INPUTS = ("liked", "weights", "hidden", "popular")
OUTPUTS = ("items", "scores")
HIDDEN_SCORE = -1e30  # of an item that must not be shown; it comes back where fewer than k are left

_OPSET = 18


def write_item_graph(ties: Neighbours, path: Path, *, most: int = 100) -> None:
    """Write the graph, whole or not at all.

    Inputs, rows first: `liked` INT64 [B,H] and `weights` FP32 [B,H], rows of the ties and how much each counts, padded
    with weight 0; `hidden` INT64 [B,M], places that are not shown, padded with the number of items; `popular` FP32
    [B,1], what the most liked item's popularity adds. Outputs: `items` INT64 [B,k] and `scores` FP32 [B,k].

    Args:
        ties: of the catalogue.
        path: where.
        most: k, at most the number of items.

    Raises:
        ConfigurationError: k is less than 1.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    if most < 1:
        raise ConfigurationError(f"a graph for the best {most} items is asked for; ask for 1 or more")
    count, kept = len(ties.popular), min(most, len(ties.popular))
    beyond = np.append(ties.popular, np.float32(0.0))[None, :]  # (1, items + 1): the last place takes the padding
    constants: Mapping[str, NDArray[Any]] = {
        "tie_places": ties.places.astype(np.int32),
        "tie_values": ties.values.astype(np.float32),
        "popularity": beyond.astype(np.float32),
        "flat": np.array([0, -1], dtype=np.int64),
        "last_axis": np.array([2], dtype=np.int64),
        "first": np.array([0], dtype=np.int64),
        "end": np.array([count], dtype=np.int64),
        "axis": np.array([1], dtype=np.int64),
        "k": np.array([kept], dtype=np.int64),
        "low": np.array(HIDDEN_SCORE, dtype=np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["popular", "popularity"], ["base"]),  # (B, items + 1)
        helper.make_node("Gather", ["tie_places", "liked"], ["near32"], axis=0),  # (B, H, ties)
        helper.make_node("Cast", ["near32"], ["near"], to=TensorProto.INT64),
        helper.make_node("Gather", ["tie_values", "liked"], ["strength"], axis=0),
        helper.make_node("Unsqueeze", ["weights", "last_axis"], ["weight"]),
        helper.make_node("Mul", ["strength", "weight"], ["moved"]),
        helper.make_node("Reshape", ["near", "flat"], ["where"]),  # (B, H x ties)
        helper.make_node("Reshape", ["moved", "flat"], ["added"]),
        helper.make_node("ScatterElements", ["base", "where", "added"], ["summed"], axis=1, reduction="add"),
        helper.make_node("Shape", ["hidden"], ["hidden_shape"]),
        helper.make_node("Expand", ["low", "hidden_shape"], ["lows"]),
        helper.make_node("ScatterElements", ["summed", "hidden", "lows"], ["shown"], axis=1),
        helper.make_node("Slice", ["shown", "first", "end", "axis"], ["ranked"]),
        helper.make_node("TopK", ["ranked", "k"], ["scores", "items"], axis=1, largest=1, sorted=1),
    ]
    graph = helper.make_graph(
        nodes,
        "best_items",
        [
            helper.make_tensor_value_info("liked", TensorProto.INT64, ["batch", "history"]),
            helper.make_tensor_value_info("weights", TensorProto.FLOAT, ["batch", "history"]),
            helper.make_tensor_value_info("hidden", TensorProto.INT64, ["batch", "excluded"]),
            helper.make_tensor_value_info("popular", TensorProto.FLOAT, ["batch", 1]),
        ],
        [
            helper.make_tensor_value_info("items", TensorProto.INT64, ["batch", kept]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", kept]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    with written_whole(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def item_inputs(
    liked: list[int], weights: list[float], hidden: list[int], *, popular: float, items: int
) -> dict[str, NDArray[Any]]:
    """The inputs of one row; a row of nothing holds one padded place.

    >>> item_inputs([], [], [], popular=1.0, items=3)["hidden"].tolist()
    [[3]]
    """
    return {
        "liked": np.array([liked or [0]], dtype=np.int64),
        "weights": np.array([weights or [0.0]], dtype=np.float32),
        "hidden": np.array([hidden or [items]], dtype=np.int64),
        "popular": np.array([[popular]], dtype=np.float32),
    }
