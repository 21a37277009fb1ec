"""From a typed ONNX file to a serialised plan, inside the process that is thrown away afterwards."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.continual.errors import ExportFailed
from perennial.exporters.bundle import Precision
from perennial.exporters.tensorrt.flavour import Flavour
from perennial.exporters.tensorrt.options import BuildOptions, Machine, Portability, Profile, Refit
from perennial.exporters.tensorrt.timing import attach_timing_cache, save_timing_cache, timing_cache_path
from perennial.exporters.text_classification.signature import ENGINE_INPUTS

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["build_serialised", "parse_network"]


def build_serialised(onnx: Path, options: BuildOptions, machine: Machine, cache_dir: Path | None) -> bytes:
    """The plan for `onnx`, whose types are the plan's types: the network is strongly typed.

    Raises:
        ExportFailed: TensorRT cannot parse or build it; what it printed is on this process's output.
    """
    import tensorrt as trt

    logger = trt.Logger()
    builder = trt.Builder(logger)
    network = parse_network(builder, onnx, machine)
    config = builder.create_builder_config()
    _set_flags(config, options)
    if machine.flavour is Flavour.RTX:
        _set_targets(config, options.targets)
    else:
        _set_portability(config, options.portability)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.builder_optimization_level = options.optimisation_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for profile in options.profiles:
        _add_profile(builder, config, profile)
    times = cache_dir is not None and machine.flavour is Flavour.TENSORRT  # RTX measures nothing while it builds
    cache = timing_cache_path(cache_dir, machine, options) if cache_dir is not None and times else None
    if cache is not None:
        attach_timing_cache(config, cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportFailed(
            f"{machine.flavour.label} {machine.tensorrt} could not build {onnx.name} as {options.precision.value}; "
            f"its own lines above say why, often a workspace (now {options.workspace_bytes} bytes) that is too small"
        )
    if cache is not None:
        save_timing_cache(config, cache)
    return bytes(plan)


def parse_network(builder: "trt.Builder", onnx: Path, machine: Machine) -> "trt.INetworkDefinition":
    """The strongly typed network of the ONNX file `onnx`.

    Raises:
        ExportFailed: the parser refuses the graph.
    """
    import tensorrt as trt

    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger())
    if not parser.parse_from_file(str(onnx)):
        raise ExportFailed(
            f"{machine.flavour.label} {machine.tensorrt} cannot parse {onnx.name}: {_parser_errors(parser)}"
        )
    return network


def _set_flags(config: "trt.IBuilderConfig", options: BuildOptions) -> None:
    """Only flags that say nothing about precision: the network's own types do. TF32 is on unless it is cleared."""
    import tensorrt as trt

    if options.precision is not Precision.TF32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.refit is not Refit.NONE:
        config.set_flag(trt.BuilderFlag.REFIT)
    if options.refit is Refit.STRIPPED:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)


def _set_targets(config: Any, targets: tuple[str, ...]) -> None:
    """The compute capabilities to build for; TensorRT's own configuration has no such call."""
    import tensorrt as trt

    known: Any = trt
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        capability = getattr(known.ComputeCapability, f"SM{target.replace('.', '')}")
        if not config.set_compute_capability(capability, index):
            raise ExportFailed(f"TensorRT for RTX refuses the target {target}; its own lines above say why")


def _set_portability(config: "trt.IBuilderConfig", portability: Portability) -> None:
    import tensorrt as trt

    match portability:
        case Portability.NEWER_TENSORRT:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        case Portability.AMPERE_PLUS:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        case Portability.SAME_CAPABILITY:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
        case Portability.EXACT:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.NONE


def _add_profile(builder: "trt.Builder", config: "trt.IBuilderConfig", profile: Profile) -> None:
    import tensorrt as trt

    shapes = builder.create_optimization_profile()
    for name in ENGINE_INPUTS:
        shapes.set_shape(
            name,
            trt.Dims((1, 1)),
            trt.Dims((profile.best_batch, profile.best_sequence)),
            trt.Dims((profile.max_batch, profile.max_sequence)),
        )
    if config.add_optimization_profile(shapes) < 0:
        raise ExportFailed(f"TensorRT refuses the profile {profile}; its own lines above say why")


def _parser_errors(parser: "trt.OnnxParser") -> str:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return (
        "; ".join(f"{error.node_name() or 'model'}: {' '.join(error.desc().split())}" for error in errors)
        or "no reason given"
    )
