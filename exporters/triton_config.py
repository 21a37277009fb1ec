"""Triton's `config.pbtxt`, written through Triton's own protobuf: one generator for the embedded server and NGC's."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from perennial.continual.errors import ConfigurationError
from perennial.exporters.contract import all_inputs, all_outputs
from perennial.exporters.signature import EngineSignature, RouterSignature, Tensor

__all__ = [
    "EngineBackend",
    "EngineSpec",
    "RouterSpec",
    "engine_config",
    "parse_config",
    "router_config",
    "versions_of",
    "with_versions",
]

_QUEUED_REQUESTS = 4_096  # in Triton's own queue, which only fills up when a process takes nothing out of it
_WARM_UP = 16  # of a dimension that varies
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class EngineBackend(StrEnum):
    """Which Triton backend executes an engine model's versions."""

    PERENNIAL = "perennial_engine"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"


_FILES = {
    EngineBackend.ONNXRUNTIME: "model.onnx",
    EngineBackend.OPENVINO: "model.xml",
    EngineBackend.TENSORRT: "model.plan",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSpec:
    """The model that clients call. `parameters` become strings the router reads, for example `route_path`."""

    model: str
    signature: RouterSignature
    parameters: Mapping[str, str]
    instances: int = 2
    max_batch_size: int = 64
    backend: str = "perennial"
    streams: tuple[Tensor, ...] | None = None  # what a decoupled model sends before its answer

    def __post_init__(self) -> None:
        _check(self.model, self.instances, self.max_batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """The model that holds the versions.

    `threads` 0 lets the runtime choose. `profiles` are the TensorRT optimisation profiles each instance may use. `gpu`
    places the instances on the first GPU; TensorRT always is.
    """

    model: str
    signature: EngineSignature
    versions: tuple[int, ...] = ()
    backend: EngineBackend = EngineBackend.PERENNIAL
    instances: int = 1
    threads: int = 0
    max_batch_size: int = 64
    queue_delay_us: int = 0
    profiles: tuple[str, ...] = ()
    gpu: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self.model, self.instances, self.max_batch_size)
        _check_versions(self.model, self.versions)
        if self.queue_delay_us < 0:
            raise ConfigurationError(f"{self.model}: queue_delay_us {self.queue_delay_us} must be at least 0")
        if self.queue_delay_us and self.backend is EngineBackend.PERENNIAL:
            raise ConfigurationError(
                f"{self.model}: queue_delay_us {self.queue_delay_us} is Triton's batcher's, which the backend "
                f"{self.backend.value} has none of; leave it out: routers form the batches"
            )
        if self.threads < 0:
            raise ConfigurationError(f"{self.model}: threads {self.threads} must be 0 (the runtime chooses) or more")
        if self.profiles and self.backend is not EngineBackend.TENSORRT:
            raise ConfigurationError(
                f"{self.model}: optimisation profiles {list(self.profiles)} belong to the tensorrt backend, "
                f"not to {self.backend.value}; leave them out"
            )


def router_config(spec: RouterSpec) -> str:
    """The router's `config.pbtxt`. It has one version and no warm-up, because an answer is always logged.

    Routers form batches themselves. Triton's dynamic batcher would add a stall: its thread at times misses the wake-up
    for a request and only looks again after half a second (seen in Triton 2.51, every 100 to 500 requests).
    """
    if spec.streams is not None:
        return _stream_config(spec, spec.streams)
    config = _new(spec.model, spec.backend, spec.max_batch_size)
    _tensors(config, all_inputs(spec.signature), all_outputs(spec.signature))
    config.instance_group.add(count=spec.instances, kind=_kinds()["KIND_CPU"])
    config.version_policy.specific.versions.append(1)
    _parameters(config, spec.parameters)
    return _text(config)


def _stream_config(spec: RouterSpec, pieces: tuple[Tensor, ...]) -> str:
    """A model of one process that answers one row by many responses; Triton forms no batches of them."""
    config = _new(spec.model, spec.backend, 0)
    _tensors(config, all_inputs(spec.signature), (*pieces, *all_outputs(spec.signature)))
    config.instance_group.add(count=1, kind=_kinds()["KIND_CPU"])
    config.model_transaction_policy.decoupled = True
    config.version_policy.specific.versions.append(1)
    _parameters(config, spec.parameters)
    return _text(config)


def engine_config(spec: EngineSpec) -> str:
    """The engine model's `config.pbtxt`: its inputs and outputs are the signature's, as inside the ONNX graph.

    Only Triton's own backends have its dynamic batcher: the project's engine process gets whole batches from routers.
    """
    config = _new(spec.model, spec.backend.value, spec.max_batch_size)
    if spec.backend is not EngineBackend.PERENNIAL:
        _batch_dynamically(config, spec)
    _tensors(config, spec.signature.inputs, spec.signature.outputs)
    for tensor in config.input:
        tensor.allow_ragged_batch = spec.backend is EngineBackend.PERENNIAL  # it pads the requests of a batch itself
    on_gpu = spec.gpu or spec.backend is EngineBackend.TENSORRT
    group = config.instance_group.add(count=spec.instances, kind=_kinds()["KIND_GPU" if on_gpu else "KIND_CPU"])
    group.profile.extend(spec.profiles)
    config.version_policy.specific.versions.extend(sorted(set(spec.versions)))
    _parameters(config, {**_thread_parameters(spec), **spec.parameters})
    if spec.backend is not EngineBackend.PERENNIAL:
        config.default_model_filename = _FILES[spec.backend]
        _warm_up(config, spec.signature)
    return _text(config)


def parse_config(text: str) -> Any:
    """The `ModelConfig` message that a `config.pbtxt` describes.

    Raises:
        ConfigurationError: the text is no model configuration.
    """
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as exc:
        raise ConfigurationError(f"config.pbtxt is not a model configuration ({exc}); write it again") from exc


def versions_of(text: str) -> tuple[int, ...]:
    """The versions that a `config.pbtxt` names; none where its policy is another one."""
    return tuple(parse_config(text).version_policy.specific.versions)


def with_versions(text: str, versions: tuple[int, ...]) -> str:
    """The same configuration with other versions: the one change that reloads nothing that is loaded already."""
    config = parse_config(text)
    _check_versions(config.name, versions)
    config.version_policy.specific.versions[:] = sorted(set(versions))
    return _text(config)


def _check(model: str, instances: int, max_batch_size: int) -> None:
    if not _NAME.fullmatch(model):
        raise ConfigurationError(f"model name {model!r} must be letters, digits, '_', '-' or '.', at most 128")
    if instances < 1 or max_batch_size < 1:
        raise ConfigurationError(
            f"{model}: instances {instances} and max_batch_size {max_batch_size} must be at least 1"
        )


def _check_versions(model: str, versions: tuple[int, ...]) -> None:
    if wrong := [version for version in versions if version < 1]:
        raise ConfigurationError(f"{model}: versions {wrong} must be at least 1")


def _new(model: str, backend: str, max_batch_size: int) -> Any:
    from tritonclient.grpc import model_config_pb2

    return model_config_pb2.ModelConfig(name=model, backend=backend, max_batch_size=max_batch_size)


def _batch_dynamically(config: Any, spec: EngineSpec) -> None:
    batching, largest = config.dynamic_batching, spec.max_batch_size
    preferred = [size for size in (2**power for power in range(2, 12)) if size < largest]
    # A preferred size only pays when the batcher waits for it; without a delay it forms what is there.
    if spec.queue_delay_us:
        batching.preferred_batch_size.extend([*preferred[-2:], largest])
    batching.max_queue_delay_microseconds = spec.queue_delay_us
    batching.default_queue_policy.max_queue_size = _QUEUED_REQUESTS


def _kinds() -> Mapping[str, int]:
    from tritonclient.grpc import model_config_pb2

    return dict(model_config_pb2.ModelInstanceGroup.Kind.items())


def _tensors(config: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    for tensor in inputs:
        added = config.input.add(name=tensor.name, data_type=_data_type(tensor), dims=tensor.config_dims)
        if tensor.optional:
            added.optional = True
    for tensor in outputs:
        config.output.add(name=tensor.name, data_type=_data_type(tensor), dims=tensor.config_dims)


def _data_type(tensor: Tensor) -> int:
    from tritonclient.grpc import model_config_pb2

    return int(model_config_pb2.DataType.Value(tensor.config_type))


def _parameters(config: Any, parameters: Mapping[str, str]) -> None:
    for key in sorted(parameters):
        config.parameters[key].string_value = parameters[key]


def _thread_parameters(spec: EngineSpec) -> dict[str, str]:
    match spec.backend:
        case EngineBackend.PERENNIAL:
            return {"threads": str(spec.threads)}
        case EngineBackend.ONNXRUNTIME if spec.threads:
            return {"intra_op_thread_count": str(spec.threads), "inter_op_thread_count": "1"}
        case EngineBackend.OPENVINO if spec.threads:
            return {"INFERENCE_NUM_THREADS": str(spec.threads)}
        case _:
            return {}


def _warm_up(config: Any, signature: EngineSignature) -> None:
    for rows in sorted({1, 2 ** int(math.log2(config.max_batch_size))}):
        warm = config.model_warmup.add(name=f"rows_{rows}", batch_size=rows)
        for tensor in signature.inputs:
            warm_input = warm.inputs[tensor.name]
            warm_input.data_type = _data_type(tensor)
            warm_input.dims.extend(_WARM_UP if size == -1 else size for size in tensor.config_dims)
            warm_input.zero_data = True


def _text(config: Any) -> str:
    from google.protobuf import text_format

    return str(text_format.MessageToString(config))
