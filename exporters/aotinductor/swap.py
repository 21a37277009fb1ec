"""New weights for a package that is already compiled."""

from pathlib import Path
from typing import TYPE_CHECKING

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import ExportFailed
from perennial.exporters.aotinductor.compiler import prepare
from perennial.exporters.aotinductor.package import WEIGHTS, PackageRecord
from perennial.exporters.aotinductor.weights import describe, digest_values, named_weights
from perennial.exporters.bundle import Precision

if TYPE_CHECKING:
    import torch

__all__ = ["swap_weights"]


def swap_weights(module: "torch.nn.Module", package: Path) -> Path:
    """Write `module`'s weights beside `package`, where the next load puts them over the compiled ones.

    The package itself is neither compiled nor changed. Returns the file.

    Raises:
        ExportFailed: the weights' names, shapes or types are not the package's, or a fixed one changed.
    """
    from safetensors.torch import save_file

    record = PackageRecord.read(package)
    everything = named_weights(prepare(module, Precision(record.precision)))
    weights = {name: value for name, value in everything.items() if name not in record.fixed}
    fixed = {name: digest_values(value) for name, value in everything.items() if name in record.fixed}
    seen, wanted = {**describe(weights), **fixed}, {**record.weights, **record.fixed}
    if seen != wanted:
        wrong = sorted(name for name in {*seen, *wanted} if seen.get(name) != wanted.get(name))
        raise ExportFailed(f"weights {wrong[:3]} do not fit {package.name} ({len(wrong)} differ); compile it in full")
    path = package.with_name(WEIGHTS)
    with written_whole(path) as temporary:
        save_file({name: value.detach().cpu().clone() for name, value in weights.items()}, temporary)
    return path
