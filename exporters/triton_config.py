"""`config.pbtxt` for router and engines, built through Triton's own protobuf so that a wrong field cannot pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from continual.errors import ConfigurationError

__all__ = ["EngineBackend", "EngineSpec", "RouterSpec", "engine_config", "parse_config", "router_config"]


class EngineBackend(StrEnum):
    """What runs an engine model inside Triton."""

    PERENNIAL = "perennial_engine"  # the embedded server's python-based backend; reads the manifest
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
    """The model that clients call. `parameters` are what the router reads at its start."""

    name: str
    parameters: Mapping[str, str]
    instances: int = 2
    max_batch_size: int = 64
    queue_delay_us: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """The model that holds the versions. `profiles` are TensorRT optimisation profile numbers."""

    name: str
    versions: Sequence[int]
    backend: EngineBackend = EngineBackend.PERENNIAL
    instances: int = 1
    gpu: bool = False
    max_batch_size: int = 64
    queue_delay_us: int = 200
    profiles: Sequence[int] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.versions or min(self.versions) < 1:
            raise ConfigurationError(
                f"engine model {self.name} has versions {list(self.versions)}; name at least one, from 1"
            )


def router_config(spec: RouterSpec) -> str:
    """The router's `config.pbtxt`."""
    from tritonclient.grpc import model_config_pb2 as pb

    config = _base(pb, spec.name, "perennial", spec.max_batch_size, spec.queue_delay_us, spec.parameters)
    _tensor(config.input.add(), "TEXT", pb.TYPE_STRING, [1])
    _tensor(config.input.add(), "KEY", pb.TYPE_STRING, [1], optional=True)
    for name, kind, dims in (
        ("LABEL", pb.TYPE_STRING, [1]),
        ("CONFIDENCE", pb.TYPE_FP32, [1]),
        ("VERSION", pb.TYPE_INT64, [1]),
        ("PREDICTION_ID", pb.TYPE_STRING, [1]),
        ("SCORES", pb.TYPE_FP32, [-1]),
        ("LABELS", pb.TYPE_STRING, [-1]),
    ):
        _tensor(config.output.add(), name, kind, dims)
    group = config.instance_group.add()
    group.count, group.kind = spec.instances, pb.ModelInstanceGroup.KIND_CPU
    config.version_policy.specific.versions.append(1)
    return _text(config)


def engine_config(spec: EngineSpec) -> str:
    """The engine model's `config.pbtxt`; nothing is left to auto-completion."""
    from tritonclient.grpc import model_config_pb2 as pb

    config = _base(pb, spec.name, spec.backend.value, spec.max_batch_size, spec.queue_delay_us, spec.parameters)
    if spec.backend in _FILES:
        config.default_model_filename = _FILES[spec.backend]
    if spec.backend is EngineBackend.TENSORRT:
        config.platform = "tensorrt_plan"
    _tensor(config.input.add(), "input_ids", pb.TYPE_INT64, [-1])
    _tensor(config.input.add(), "attention_mask", pb.TYPE_INT64, [-1])
    _tensor(config.output.add(), "logits", pb.TYPE_FP32, [-1])
    _tensor(config.output.add(), "embedding", pb.TYPE_FP32, [-1])
    group = config.instance_group.add()
    group.count = spec.instances
    group.kind = pb.ModelInstanceGroup.KIND_GPU if spec.gpu else pb.ModelInstanceGroup.KIND_CPU
    group.profile.extend(str(profile) for profile in spec.profiles)
    config.version_policy.specific.versions.extend(sorted(spec.versions))
    if spec.backend is not EngineBackend.PERENNIAL:
        _warm_up(pb, config)
    return _text(config)


def parse_config(text: str) -> Any:
    """The protobuf message of a `config.pbtxt`.

    Raises:
        ConfigurationError: a field is unknown or has the wrong type.
    """
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb

    try:
        return text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as exc:
        raise ConfigurationError(f"config.pbtxt cannot be read: {exc}; let Perennial write it again") from exc


def _base(
    pb: Any, name: str, backend: str, max_batch_size: int, queue_delay_us: int, parameters: Mapping[str, str]
) -> Any:
    config = pb.ModelConfig(name=name, backend=backend, max_batch_size=max_batch_size)
    config.dynamic_batching.max_queue_delay_microseconds = queue_delay_us
    for key, value in sorted(parameters.items()):
        config.parameters[key].string_value = value
    return config


def _tensor(tensor: Any, name: str, kind: int, dims: Sequence[int], *, optional: bool = False) -> None:
    tensor.name, tensor.data_type = name, kind
    tensor.dims.extend(dims)
    if optional:
        tensor.optional = True


def _warm_up(pb: Any, config: Any) -> None:
    """A short and a long batch, so that no client pays for the first one."""
    for tokens in (16, 128):
        sample = config.model_warmup.add()
        sample.name, sample.batch_size = f"{tokens} tokens", 1
        for name in ("input_ids", "attention_mask"):
            tensor = sample.inputs[name]
            tensor.data_type, tensor.zero_data = pb.TYPE_INT64, True
            tensor.dims.extend([tokens])


def _text(config: Any) -> str:
    from google.protobuf import text_format

    return str(text_format.MessageToString(config))
