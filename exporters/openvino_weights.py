"""Which constant of an OpenVINO model is which weight: found by converting marked weights, kept in the file."""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from perennial.continual.errors import ExportFailed
from perennial.exporters.graph import Source, mark_weights, read_sources
from perennial.exporters.openvino_toolkit import import_openvino

__all__ = ["PLACES", "Place", "convert_placed", "fill", "read_places"]

_LOG = logging.getLogger(__name__)
PLACES = ["perennial", "weights"]  # where in rt_info
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A constant of the converted model: the initializer it came from, and whether conversion turned it."""

    source: Source
    turned: bool


def convert_placed(graph: Path) -> Any:
    """The OpenVINO model of an ONNX file, every weight's place recorded in its rt_info where each has one.

    Conversion renames and reshapes constants, and equal weights (biases of 0, gains of 1) cannot be told apart by
    value. So the graph is converted with different noise in each weight, and the real ones are filled in by place.
    Some encoders compute with weights alone, and conversion merges these into other constants. Such a graph is
    converted as it is: it serves like any other, and a later version is exported in full instead of swapped in.
    """
    openvino = import_openvino()

    proto = onnx.load(graph)
    sources = read_sources(proto)
    real = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer if item.name in sources}
    marks = mark_weights(proto, sources)
    with tempfile.TemporaryDirectory(dir=graph.parent, prefix=".marked-") as folder:
        marked = Path(folder) / "marked.onnx"
        onnx.save_model(proto, marked)
        model = openvino.convert_model(str(marked))
    del proto
    try:
        places, values = _find(model, marks, sources, real)
    except ExportFailed as error:
        _LOG.info("export.places_not_recorded", extra={"graph": graph.name, "reason": str(error)})
        return openvino.convert_model(str(graph))
    fill(model, places, values)
    record = {
        name: [list(place.source.parameters), place.source.transposed, place.turned] for name, place in places.items()
    }
    model.set_rt_info(json.dumps(record), PLACES)
    return model


def read_places(model: Any) -> dict[str, Place]:
    """Constant name to place, as recorded; only constants that are still float and still there.

    Raises:
        ExportFailed: the model was not converted by this product.
    """
    if not model.has_rt_info(PLACES):
        raise ExportFailed("the OpenVINO model has no record of its weights' places; export in full")
    raw = json.loads(model.get_rt_info(PLACES).astype(str))
    present = {name for name, node in _constants(model).items() if node.get_element_type().get_type_name() == "f32"}
    return {
        name: Place(source=Source(parameters=tuple(names), transposed=transposed), turned=turned)
        for name, (names, transposed, turned) in raw.items()
        if name in present
    }


def fill(model: Any, places: Mapping[str, Place], values: Mapping[str, Array]) -> None:
    """Put `values` (by constant name, oriented as in the ONNX) into the model; shapes are inferred anew."""
    openvino = import_openvino()
    constants = _constants(model)
    for name, value in values.items():
        node = constants[name]
        array = np.ascontiguousarray(value.T if places[name].turned else value, dtype=np.float32)
        rank = len(node.get_output_shape(0))
        array = array.reshape((1,) * (rank - array.ndim) + array.shape)
        fresh = openvino.op.Constant(array)
        node.output(0).replace(fresh.output(0))
        fresh.set_friendly_name(name)
    model.validate_nodes_and_infer_types()


def _constants(model: Any) -> dict[str, Any]:
    return {node.get_friendly_name(): node for node in model.get_ops() if node.get_type_name() == "Constant"}


def _find(
    model: Any, marks: Mapping[str, Array], sources: Mapping[str, Source], real: Mapping[str, Array]
) -> tuple[dict[str, Place], dict[str, Array]]:
    """Places by constant name, and the real values to put there."""
    by_first = {(mark.size, float(mark.reshape(-1)[0])): name for name, mark in marks.items()}
    places: dict[str, Place] = {}
    values: dict[str, Array] = {}
    for constant, node in _constants(model).items():
        if node.get_element_type().get_type_name() != "f32" or not node.data.size:
            continue
        data = node.data
        name = by_first.get((data.size, float(data.reshape(-1)[0])))
        if name is None:
            continue
        mark = marks[name]
        for turned, candidate in ((False, mark), (True, mark.T)):
            if np.array_equal(np.ravel(candidate), data.reshape(-1)) and data.shape[-1] == candidate.shape[-1]:
                places[constant] = Place(source=sources[name], turned=turned)
                values[constant] = real[name]
                break
    placed = {parameter for place in places.values() for parameter in place.source.parameters}
    lost = sorted({parameter for source in sources.values() for parameter in source.parameters} - placed)
    if lost:
        raise ExportFailed(f"conversion merged the weights {lost[:3]} into other constants, so no place is theirs")
    return places, values
