"""New weights into an old engine: the graph stays, the numbers change. Seconds instead of an export and a build."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx

from perennial.continual.errors import ExportFailed
from perennial.exporters.built import BuiltEngine
from perennial.exporters.bundle import EngineKind, Manifest
from perennial.exporters.graph import Source, read_sources, set_initializer
from perennial.exporters.openvino_toolkit import import_openvino, openvino_core
from perennial.exporters.openvino_weights import fill, read_places
from perennial.exporters.text_classification.signature import LOGITS
from perennial.exporters.trained import TrainedModel

__all__ = ["swap_weights"]

Array = npt.NDArray[Any]
_NO_WEIGHTS = ("position_ids", "token_type_ids")


def swap_weights(previous: Path, manifest: Manifest, model: TrainedModel, folder: Path) -> BuiltEngine:
    """Write the previous bundle's engine into `folder` with `model`'s weights in it.

    When the encoder's fingerprint is unchanged only the head's weights are touched, whatever the precision; a head with
    more classes than before is such a case. Otherwise every weight must still be in the graph by name and in FP32.

    Raises:
        ExportFailed: this engine cannot take these weights; export in full.
    """
    started = time.perf_counter()
    same_encoder = manifest.encoder_fingerprint == model.encoder_fingerprint
    sizes, wanted = tuple(map(manifest.part.get, ("dimension", "max_length"))), (model.dimension, model.max_length)
    if sizes != wanted:
        raise ExportFailed(
            f"version {manifest.version} has dimension {sizes[0]} and max_length {sizes[1]}, "
            f"the new model {wanted[0]} and {wanted[1]}; export in full"
        )
    match manifest.engine:
        case EngineKind.ONNXRUNTIME:
            _swap_onnx(previous / manifest.engine_file, model, folder / manifest.engine_file, same_encoder)
        case EngineKind.OPENVINO:
            _swap_openvino(previous / manifest.engine_file, model, folder / manifest.engine_file, same_encoder)
        case _:
            raise ExportFailed(f"a {manifest.engine.value} engine is not swapped here; export in full")
    return BuiltEngine.again(manifest, seconds=time.perf_counter() - started)


def _swap_onnx(source: Path, model: TrainedModel, target: Path, same_encoder: bool) -> None:
    proto = onnx.load(source)
    sources = read_sources(proto)
    shapes = {item.name: tuple(item.dims) for item in proto.graph.initializer}
    for name, value in _new_values(sources, shapes, model, same_encoder).items():
        set_initializer(proto, name, value)
    for output in proto.graph.output:
        if output.name == LOGITS:
            output.type.tensor_type.shape.dim[1].dim_value = len(model.labels)
    onnx.save_model(proto, target)


def _swap_openvino(source: Path, model: TrainedModel, target: Path, same_encoder: bool) -> None:
    openvino = import_openvino()

    network = openvino_core().read_model(str(source))
    places = read_places(network)
    sources = {name: place.source for name, place in places.items()}
    constants = (node for node in network.get_ops() if node.get_type_name() == "Constant")
    sizes = {node.get_friendly_name(): tuple(node.get_output_shape(0)) for node in constants}
    shapes = {name: sizes[name][::-1] if place.turned else sizes[name] for name, place in places.items()}
    values = _new_values(sources, shapes, model, same_encoder)
    fill(network, places, values)
    openvino.save_model(network, str(target), compress_to_fp16=False)


def _new_values(
    sources: Mapping[str, Source], shapes: Mapping[str, tuple[int, ...]], model: TrainedModel, same_encoder: bool
) -> dict[str, Array]:
    """The new value of every initializer to replace; each must fit its place, the class dimension aside."""
    parameters = model.parameters(encoder=not same_encoder)
    wanted = {name: source for name, source in sources.items() if source.is_head or not same_encoder}
    values = {name: source.build(parameters) for name, source in wanted.items()}
    placed = {parameter for source in wanted.values() for parameter in source.parameters}
    if unplaced := sorted(name for name in set(parameters) - placed if not name.endswith(_NO_WEIGHTS)):
        raise ExportFailed(f"the engine has no place for the new weights {unplaced[:3]}; export in full")
    for name, value in values.items():
        old, new = (_fixed(wanted[name], shape) for shape in (shapes[name], value.shape))
        if old != new:
            raise ExportFailed(f"{name} has shape {shapes[name]}, the new weights {value.shape}; export in full")
    return values


def _fixed(source: Source, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without leading ones (OpenVINO adds them to biases) and without the head's class dimension."""
    if source.parameters[0] == "head.bias":
        return ()
    if source.parameters[0] == "head.weight":
        return (shape[0] if source.transposed else shape[-1],)
    sizes = list(shape)
    while len(sizes) > 1 and sizes[0] == 1:
        sizes.pop(0)
    return tuple(sizes)
