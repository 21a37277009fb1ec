"""AOTInductor: a torch model compiled ahead of time into a `.pt2` package, for CUDA or the CPU.

A package is compiled code: loading one runs it. It is opened only out of a bundle whose manifest has been verified, and
never from a place that others may write to. Its weights can be replaced without compiling, from a safetensors file.
"""

from perennial.exporters.aotinductor.bundled import build_aotinductor
from perennial.exporters.aotinductor.compiler import build_package
from perennial.exporters.aotinductor.package import WEIGHTS, PackageRecord
from perennial.exporters.aotinductor.runtime import AotInductorEngine, load, load_package
from perennial.exporters.aotinductor.swap import swap_weights

__all__ = [
    "WEIGHTS",
    "AotInductorEngine",
    "PackageRecord",
    "build_aotinductor",
    "build_package",
    "load",
    "load_package",
    "swap_weights",
]
