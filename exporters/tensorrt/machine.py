"""Whether TensorRT can run here, and whether a plan made elsewhere may."""

from perennial.continual.errors import BundleRejected, DependencyUnreachable
from perennial.exporters.tensorrt.flavour import Flavour, installed_version, is_installed
from perennial.exporters.tensorrt.options import Machine, PlanRecord, Portability

__all__ = ["check_fits", "check_loadable", "check_supported", "detect_machine", "machine_without_gpu"]


def detect_machine() -> Machine:
    """The GPU, CUDA and TensorRT of this machine; TensorRT for RTX where it alone is installed.

    Raises:
        DependencyUnreachable: there is no TensorRT, no supported one, or no NVIDIA GPU here.
    """
    flavour = next((kind for kind in Flavour if is_installed(kind)), None)
    if flavour is None:
        raise DependencyUnreachable(
            "TensorRT engines need the package 'tensorrt' and an NVIDIA GPU, and the package is not installed here; "
            "pip install 'perennial-serving[tensorrt]' on a machine with a GPU, "
            "or choose the engine openvino or onnxruntime"
        )
    import torch

    if not torch.cuda.is_available():
        raise DependencyUnreachable(
            "TensorRT engines need an NVIDIA GPU that torch can see, and there is none here; "
            "run on a machine with one, or choose the engine openvino or onnxruntime"
        )
    index = torch.cuda.current_device()
    major, minor = torch.cuda.get_device_capability(index)
    machine = Machine(
        gpu=torch.cuda.get_device_name(index),
        capability=f"{major}.{minor}",
        cuda=str(torch.version.cuda),
        tensorrt=installed_version(flavour),
        flavour=flavour,
    )
    check_supported(machine)
    return machine


def machine_without_gpu() -> Machine:
    """This machine as one that only builds, with TensorRT for RTX: its plans wait for a GPU that runs them.

    Raises:
        DependencyUnreachable: TensorRT for RTX is not installed, or not a supported one.
    """
    machine = Machine(gpu="", capability="", cuda="", tensorrt=installed_version(Flavour.RTX), flavour=Flavour.RTX)
    check_supported(machine)
    return machine


def check_supported(machine: Machine) -> None:
    """Refuse a library whose builder differs from the one this code speaks to.

    Raises:
        DependencyUnreachable: its version is outside what its flavour is supported in.
    """
    first, beyond = machine.flavour.supported
    if not first <= machine.release < beyond:
        low, high = ".".join(map(str, first)), ".".join(map(str, beyond))
        raise DependencyUnreachable(
            f"{machine.flavour.label} {machine.tensorrt} is installed; this version works with {low} and later, "
            f"below {high}; pip install '{machine.flavour.package}>={low},<{high}'"
        )


def check_loadable(record: PlanRecord, machine: Machine) -> None:
    """Refuse a plan that this machine's TensorRT or GPU would refuse, before it is asked.

    Raises:
        BundleRejected: stripped of its weights, never run on a GPU, or made by another TensorRT or for another GPU than
            its portability or its targets allow.
    """
    if record.stripped:
        raise BundleRejected("the plan is stripped of its weights; refit it with an ONNX model before it can serve")
    if not record.probed:
        raise BundleRejected(
            "the plan was built where no GPU could run it, and has never answered; "
            "call prove_plan on a machine with one of its targets before it can serve"
        )
    check_fits(record, machine)


def check_fits(record: PlanRecord, machine: Machine) -> None:
    """Refuse a plan that was made by another library, or not for the GPU here; see `check_loadable`."""
    built, portability = record.machine, record.options.portability
    if machine.flavour is not built.flavour:
        raise BundleRejected(
            f"the plan was built by {built.flavour.label}, here is {machine.flavour.label}; "
            f"pip install 'perennial-serving[{built.flavour.extra}]' or export again here"
        )
    newer = portability is Portability.NEWER_TENSORRT and machine.release >= built.release
    if machine.tensorrt != built.tensorrt and not newer:
        raise BundleRejected(
            f"the plan was built by {built.flavour.label} {built.tensorrt}, the runtime here is {machine.tensorrt} "
            f"(portability {portability.value}); install that version or export again here"
        )
    if machine.flavour is Flavour.RTX:
        if machine.capability not in record.options.targets:
            raise BundleRejected(
                f"the plan was built for compute capabilities {list(record.options.targets)}, here is {machine.gpu} "
                f"({machine.capability}); export again with that target"
            )
    elif not _same_hardware(built, machine, portability):
        raise BundleRejected(
            f"the plan was built for {built.gpu} (compute capability {built.capability}), here is {machine.gpu} "
            f"({machine.capability}, portability {portability.value}); export again here"
        )


def _same_hardware(built: Machine, machine: Machine, portability: Portability) -> bool:
    if portability is Portability.AMPERE_PLUS:
        return int(machine.capability.split(".")[0]) >= 8
    if portability is Portability.SAME_CAPABILITY:
        return machine.capability == built.capability
    return (machine.gpu, machine.capability) == (built.gpu, built.capability)
