"""TensorRT 10.12 to 11.x, and TensorRT for RTX: typed ONNX to a plan, new weights by refit, a plan that answers.

Nothing here imports TensorRT or torch before it is needed, so the room can be entered on a machine without a GPU; what
needs one says so in one sentence.
"""

from perennial.exporters.tensorrt.bundled import build_tensorrt
from perennial.exporters.tensorrt.flavour import RTX_TARGETS, Flavour
from perennial.exporters.tensorrt.job import build_plan, probe_plan, prove_plan, refit_or_build, refit_plan
from perennial.exporters.tensorrt.machine import detect_machine, machine_without_gpu
from perennial.exporters.tensorrt.options import (
    LONG_TEXT,
    SHORT_TEXT,
    BuildOptions,
    Machine,
    PlanRecord,
    Portability,
    Profile,
    Refit,
)
from perennial.exporters.tensorrt.precision import Caster, write_typed
from perennial.exporters.tensorrt.runtime import TensorRtEngine, load, load_plan

__all__ = [
    "LONG_TEXT",
    "RTX_TARGETS",
    "SHORT_TEXT",
    "BuildOptions",
    "Caster",
    "Flavour",
    "Machine",
    "PlanRecord",
    "Portability",
    "Profile",
    "Refit",
    "TensorRtEngine",
    "build_plan",
    "build_tensorrt",
    "detect_machine",
    "load",
    "load_plan",
    "machine_without_gpu",
    "probe_plan",
    "prove_plan",
    "refit_or_build",
    "refit_plan",
    "write_typed",
]
