"""OpenVINO and NNCF, imported here alone: by themselves they report each import and use to their maker's statistics.

A report is sent over the network by a process of its own, which tries for a long time where there is no network. Both
packages do without it where the package that sends it is not there.
"""

import importlib
import sys
from functools import cache
from typing import Any

__all__ = ["import_nncf", "import_openvino", "openvino_core"]

_SENDER = "openvino_telemetry"


def import_openvino() -> Any:
    """Return the module `openvino`.

    Raises:
        ImportError: it is not installed.
    """
    return _without_reports("openvino")


@cache
def openvino_core() -> Any:
    """Return this process's one `Core`: each one more would load OpenVINO's plugins anew. Safe to share.

    Raises:
        ImportError: it is not installed.
    """
    return import_openvino().Core()


def import_nncf() -> Any:
    """Return the module `nncf`.

    Raises:
        ImportError: it is not installed.
    """
    return _without_reports("nncf")


def _without_reports(name: str) -> Any:
    if _SENDER not in sys.modules:
        sys.modules[_SENDER] = None  # type: ignore[assignment]  # an import of it fails, as Python documents
    return importlib.import_module(name)
