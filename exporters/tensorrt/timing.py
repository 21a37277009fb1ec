"""The timing cache: what the builder measured on this very machine, kept between builds."""

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.continual.atomic_file import write_atomically
from perennial.exporters.tensorrt.options import BuildOptions, Machine, Refit

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["attach_timing_cache", "save_timing_cache", "timing_cache_path"]

_log = logging.getLogger(__name__)
_DIGEST_BYTES = 32


def timing_cache_path(folder: Path, machine: Machine, options: BuildOptions) -> Path:
    """Where the timings for this GPU, compute capability, CUDA, TensorRT and these flags lie.

    Timings of another of them would be wrong rather than missing, so each has a file of its own. Profiles, precision
    and workspace are left out: TensorRT keys single timings by them itself.
    """
    key = {
        "gpu": machine.gpu,
        "capability": machine.capability,
        "cuda": machine.cuda,
        "tensorrt": machine.tensorrt,
        "tf32": options.precision.value == "tf32",
        "refit": options.refit is not Refit.NONE,
        "portability": options.portability.value,
        "level": options.optimisation_level,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return folder / f"tensorrt-timing-{name}.bin"


def attach_timing_cache(config: "trt.IBuilderConfig", path: Path) -> None:
    """Give the builder the timings in `path`; must come before the build. A torn or foreign file means none."""
    blob = _read(path)
    cache = config.create_timing_cache(blob)
    if config.set_timing_cache(cache, ignore_mismatch=False):
        return
    _log.warning("export.timing_cache_refused", extra={"path": str(path), "bytes": len(blob)})
    config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def save_timing_cache(config: "trt.IBuilderConfig", path: Path) -> None:
    """Keep what the build has measured; the file is replaced whole or not at all."""
    blob = bytes(config.get_timing_cache().serialize())
    write_atomically(path, hashlib.sha256(blob).digest() + blob)


def _read(path: Path) -> bytes:
    if not path.is_file():
        return b""
    content = path.read_bytes()
    digest, blob = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(blob).digest() != digest:
        _log.warning("export.timing_cache_torn", extra={"path": str(path), "bytes": len(content)})
        return b""
    return blob
