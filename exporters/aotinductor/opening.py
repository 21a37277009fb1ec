"""Opening a package without asking a compiler.

`torch._inductor.aoti_load_package` first compares the CPU's vector level with the one noted in the package, and to know
it, compiles and runs a test program for each level: 45 s in a new process on one machine (torch 2.11), and a compiler
wherever a model is served. The record beside a package has been checked already, so its code is opened directly.
"""

from pathlib import Path
from typing import Any

__all__ = ["open_package"]

_MODEL = "model"  # the name that torch gives to the one model of a package
_DEFAULT_DEVICE = -1


def open_package(package: Path) -> Any:
    """The compiled model in `package`, callable; for one caller at a time.

    The runner's own bookkeeping for many callers asks CUDA for what no recorded graph may hold.
    """
    import torch
    from torch.export.pt2_archive._package import AOTICompiledModel

    loader = torch._C._aoti.AOTIModelPackageLoader(str(package), _MODEL, True, 1, _DEFAULT_DEVICE)
    return AOTICompiledModel(loader)
