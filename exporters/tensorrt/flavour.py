"""The two libraries behind one interface: TensorRT, and TensorRT for RTX, whose builder needs no GPU.

RTX compiles for stated compute capabilities and finishes its kernels on the user's card. So its plans can be built
anywhere; whether they answer is only known on a GPU.
"""

import importlib
import importlib.metadata
import importlib.util
import sys
from enum import StrEnum
from typing import Any

from perennial.continual.errors import DependencyUnreachable, PerennialError

__all__ = ["RTX_TARGETS", "Flavour", "installed_version", "is_installed", "speak"]

# those of 1.7 that take our graphs: 7.5 refuses the FP32 head, and Hopper (9.0) is none of them
RTX_TARGETS = ("8.0", "8.6", "8.9", "12.0", "12.1")


class Flavour(StrEnum):
    """Which library makes and runs a plan; versions are compared within one."""

    TENSORRT = "tensorrt"
    RTX = "tensorrt_rtx"

    @property
    def module(self) -> str:
        """The Python module that the library is imported from."""
        return "tensorrt_rtx_bindings" if self is Flavour.RTX else "tensorrt"

    @property
    def package(self) -> str:
        """The package that a bundle's manifest names with its version."""
        return "tensorrt-rtx-cu12-bindings" if self is Flavour.RTX else "tensorrt"

    @property
    def label(self) -> str:
        """What messages call it."""
        return "TensorRT for RTX" if self is Flavour.RTX else "TensorRT"

    @property
    def extra(self) -> str:
        """The optional dependency of this project that installs it."""
        return "tensorrt-rtx" if self is Flavour.RTX else "tensorrt"

    @property
    def supported(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The first version that works and the first that does not; strong typing is what the builder relies on."""
        return ((1, 7), (2, 0)) if self is Flavour.RTX else ((10, 12), (12, 0))

    @property
    def keeps_refit_since(self) -> tuple[int, ...]:
        """The first version whose refitted engine can be serialised as one that can be refitted again."""
        return (1, 7) if self is Flavour.RTX else (10, 14)


def is_installed(flavour: Flavour) -> bool:
    """Whether its module is here; nothing is imported."""
    return importlib.util.find_spec(flavour.module) is not None


def installed_version(flavour: Flavour) -> str:
    """The version of the library here.

    Raises:
        DependencyUnreachable: it is not installed, or cannot be imported.
    """
    return str(_import(flavour).__version__)


def speak(flavour: Flavour) -> None:
    """From now on `import tensorrt` means this flavour's library in this process.

    Both have the same names, so one code speaks to both. A process speaks to one of them only, because their objects
    must not meet.

    Raises:
        DependencyUnreachable: it is not installed, or cannot be imported.
        PerennialError: this process speaks to the other one already.
    """
    spoken = sys.modules.get("tensorrt")
    wanted = _import(flavour)
    if spoken is not None and spoken is not wanted:
        raise PerennialError(
            f"this process has loaded another TensorRT than {flavour.label}; load such a plan in a process of its own"
        )
    sys.modules["tensorrt"] = wanted


def _import(flavour: Flavour) -> Any:
    if flavour is Flavour.TENSORRT and sys.modules.get("tensorrt") is sys.modules.get(Flavour.RTX.module, object()):
        raise PerennialError("this process speaks to TensorRT for RTX; load a TensorRT plan in a process of its own")
    try:
        return importlib.import_module(flavour.module)
    except ImportError as exc:
        raise DependencyUnreachable(
            f"{flavour.label} cannot be imported here ({exc}); pip install 'perennial-serving[{flavour.extra}]'"
        ) from exc
