"""Whether TensorRT can run here, and whether a plan made elsewhere may."""

import importlib.util

from perennial.continual.errors import BundleRejected, DependencyUnreachable
from perennial.exporters.tensorrt.options import Machine, PlanRecord, Portability

__all__ = ["MINIMUM", "check_loadable", "detect_machine"]

MINIMUM = (10, 12)  # strong typing is the only typing from here on that stays valid in 11
MAXIMUM = (12, 0)


def detect_machine() -> Machine:
    """The GPU, CUDA and TensorRT of this machine.

    Raises:
        DependencyUnreachable: there is no TensorRT, no supported one, or no NVIDIA GPU here.
    """
    if importlib.util.find_spec("tensorrt") is None:
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
    try:
        import tensorrt as trt
    except ImportError as exc:
        raise DependencyUnreachable(f"the package 'tensorrt' cannot be imported here ({exc}); reinstall it") from exc
    index = torch.cuda.current_device()
    major, minor = torch.cuda.get_device_capability(index)
    machine = Machine(
        gpu=torch.cuda.get_device_name(index),
        capability=f"{major}.{minor}",
        cuda=str(torch.version.cuda),
        tensorrt=str(trt.__version__),
    )
    check_supported(machine)
    return machine


def check_supported(machine: Machine) -> None:
    """Refuse a TensorRT whose builder differs from the one this code speaks to.

    Raises:
        DependencyUnreachable: older than 10.12, or 12 and later.
    """
    if not MINIMUM <= machine.release < MAXIMUM:
        raise DependencyUnreachable(
            f"TensorRT {machine.tensorrt} is installed; this version works with 10.12 and later and with 11; "
            "pip install 'tensorrt>=10.12,<12'"
        )


def check_loadable(record: PlanRecord, machine: Machine) -> None:
    """Refuse a plan that this machine's TensorRT or GPU would refuse, before it is asked.

    Raises:
        BundleRejected: stripped of its weights, or made by another TensorRT or for another GPU than its portability
            allows.
    """
    if record.stripped:
        raise BundleRejected("the plan is stripped of its weights; refit it with an ONNX model before it can serve")
    built = record.machine
    portability = record.options.portability
    newer = portability is Portability.NEWER_TENSORRT and machine.release >= built.release
    if machine.tensorrt != built.tensorrt and not newer:
        raise BundleRejected(
            f"the plan was built by TensorRT {built.tensorrt}, the runtime here is {machine.tensorrt} "
            f"(portability {portability.value}); install that version or export again here"
        )
    if not _same_hardware(built, machine, portability):
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
