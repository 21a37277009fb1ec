"""What a flavour of TensorRT cannot do is refused before it is asked, because some of it only warns and some dies."""

from dataclasses import replace

from perennial.continual.errors import ConfigurationError, DependencyUnreachable
from perennial.exporters.tensorrt.flavour import RTX_TARGETS, Flavour
from perennial.exporters.tensorrt.options import BuildOptions, Machine, Portability, Refit

__all__ = ["settle_options"]


def settle_options(options: BuildOptions, machine: Machine) -> BuildOptions:
    """The options as the flavour of `machine` can build them, with RTX's targets filled in from the GPU here.

    Raises:
        ConfigurationError: the flavour does not have what the options ask for.
        DependencyUnreachable: it has it only where there is a GPU, or not for the GPU here.
    """
    if machine.flavour is Flavour.TENSORRT:
        if options.targets:
            raise ConfigurationError(
                f"targets {list(options.targets)} are for TensorRT for RTX; TensorRT builds for the GPU here and says "
                "with portability where else a plan may run: leave targets empty"
            )
        return options
    if options.portability is not Portability.EXACT:
        raise ConfigurationError(
            f"TensorRT for RTX has no portability {options.portability.value}: it builds for stated compute "
            f"capabilities; leave portability exact and set targets, some of {list(RTX_TARGETS)}"
        )
    if unknown := [target for target in options.targets if target not in RTX_TARGETS]:
        raise ConfigurationError(f"TensorRT for RTX has no target {unknown}; choose from {list(RTX_TARGETS)}")
    if options.refit is not Refit.NONE and not machine.has_gpu:
        raise DependencyUnreachable(
            f"a plan with refit {options.refit.value} needs an NVIDIA driver while it is built (without one the "
            "builder ends the process); build on a machine with a GPU, or set refit to none"
        )
    if options.targets:
        return options
    if not machine.has_gpu:
        raise ConfigurationError(
            f"there is no GPU here to build for; set targets to compute capabilities, some of {list(RTX_TARGETS)}"
        )
    if machine.capability not in RTX_TARGETS:
        raise DependencyUnreachable(
            f"TensorRT for RTX has no target for {machine.gpu} (compute capability {machine.capability}), only "
            f"{list(RTX_TARGETS)}; use TensorRT or the engine aotinductor here"
        )
    return replace(options, targets=(machine.capability,))
