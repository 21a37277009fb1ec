"""A package as one of the exporter's engines: the same answer as every other builder gives."""

import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.continual.errors import BundleRejected, ExportFailed
from perennial.exporters.aotinductor.compiler import build_package
from perennial.exporters.aotinductor.package import WEIGHTS, PackageRecord
from perennial.exporters.aotinductor.runtime import load_package
from perennial.exporters.aotinductor.swap import swap_weights
from perennial.exporters.built import BuiltEngine
from perennial.exporters.bundle import EngineKind, Precision

if TYPE_CHECKING:
    import torch

__all__ = ["build_aotinductor"]

PACKAGE = "model.pt2"
_log = logging.getLogger(__name__)


def build_aotinductor(
    module: "torch.nn.Module",
    folder: Path,
    precision: Precision,
    *,
    previous: Path | None = None,
    device: str = "cuda",
    max_batch: int = 128,
    max_sequence: int = 512,
) -> BuiltEngine:
    """Compile `module` into `folder` as `model.pt2`, or take the code of the bundle `previous` with the new weights.

    The old code is taken where its precision, device and limits are those asked for, and it loads with the weights.

    Raises:
        DependencyUnreachable: `device` is cuda and there is none, or there is no C++ compiler.
        ExportFailed: torch could not export or compile the module.
    """
    started = time.perf_counter()
    wanted = (precision.value, device, max_batch, max_sequence)
    swapped = previous is not None and _swap(module, folder, previous, wanted)
    if not swapped:
        build_package(
            module, folder / PACKAGE, precision=precision, device=device, max_batch=max_batch, max_sequence=max_sequence
        )
    return BuiltEngine(
        engine=EngineKind.AOTINDUCTOR,
        precision=precision,
        file=PACKAGE,
        seconds=time.perf_counter() - started,
        options={"path": "swap" if swapped else "build"},
        toolchain=("torch",),
    )


def _swap(module: "torch.nn.Module", folder: Path, previous: Path, wanted: tuple[str, str, int, int]) -> bool:
    package = folder / PACKAGE
    try:
        record = PackageRecord.read(previous / PACKAGE)
        if (record.precision, record.device, record.max_batch, record.max_sequence) != wanted:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        for name in (PACKAGE, f"{PACKAGE}.json"):
            shutil.copyfile(previous / name, folder / name)
        swap_weights(module, package)
        load_package(package)
    except (BundleRejected, ExportFailed) as exc:
        for name in (PACKAGE, f"{PACKAGE}.json", WEIGHTS):
            (folder / name).unlink(missing_ok=True)
        _log.warning("export.swap_not_possible", extra={"previous": str(previous), "reason": str(exc)})
        return False
    return True
