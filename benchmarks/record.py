"""Where a benchmark leaves its figures: one JSON file that names the commit and the machine beside the results."""

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import write_atomically
from perennial.continual.processor import processor_facts

__all__ = ["OUT", "commit", "machine", "recipe", "write"]

OUT = Path(__file__).parent / "out"

_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_PACKAGES = (
    "avalanche-lib",
    "evidently",
    "numpy",
    "onnxruntime",
    "openvino",
    "nvidia-pytriton",
    "perennial",
    "river",
    "scikit-learn",
    "torch",
    "transformers",
    "tritonclient",
)


def write(name: str, results: dict[str, Any], out: Path | None = None) -> Path:
    """Write `NAME.json` into `out` (default `benchmarks/out`), replacing the last one whole, and return its path.

    Numpy scalars and arrays become numbers and lists; a figure that is not finite becomes null, so that any JSON
    reader accepts the file.
    """
    folder = OUT if out is None else out
    document = {"name": name, "commit": commit(), "machine": machine(), "results": _plain(results)}
    path = folder / f"{name}.json"
    write_atomically(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
    return path


def recipe(
    name: str, metric: str, value: float, interval: Sequence[float], baseline: Mapping[str, Any]
) -> dict[str, Any]:
    """A headline of a recipe's benchmark: a row of the `recipes` in its results."""
    return {"name": name, "metric": metric, "value": value, "interval": list(interval), "baseline": baseline}


def machine() -> dict[str, Any]:
    """Return what a reader needs to judge a figure: processor, cores, memory in GiB, instruction sets and versions."""
    info = processor_facts()
    present = set(info.get("flags", "").split())
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "flags": [flag for flag in _FLAGS if flag in present],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the short commit, with `+` when tracked files differ from it, or `unknown` outside a checkout."""
    root = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        changed = subprocess.run(
            ["git", "-C", root, "diff", "--quiet", "HEAD"], capture_output=True, check=False, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.returncode else "")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays, torch tensors
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
