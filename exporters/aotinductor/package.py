"""What lies beside a package, and on which processor it runs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from perennial.continual.errors import BundleRejected, DependencyUnreachable

__all__ = ["WEIGHTS", "PackageRecord", "device_here", "processor_of", "runs_on"]

FORMAT = "perennial.aotinductor/1"
WEIGHTS = "model.weights.safetensors"  # beside the package: loaded over the weights that were compiled in
_CPU_LEVELS = ("DEFAULT", "NO AVX", "AVX2", "AVX512")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRecord:
    """What lies beside a package as `<package>.json`: what it was compiled by, for, and up to which shapes.

    `processor` is the GPU's name and compute capability, or the CPU's vector level. `weights` maps each replaceable
    weight to its type and shape; `fixed` maps those that the compiler kept no place for to a digest of their values.
    """

    torch: str
    device: str
    processor: str
    precision: str
    max_batch: int
    max_sequence: int
    seconds: float
    weights: Mapping[str, str]
    fixed: Mapping[str, str]

    def to_json(self) -> str:
        """The record as it lies on disk."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, package: Path) -> "PackageRecord":
        """The record beside `package`.

        Raises:
            BundleRejected: there is none, or it is not of this format.
        """
        path = package.with_name(f"{package.name}.json")
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw.pop("format") != FORMAT:
                raise BundleRejected(f"{path} is not of format {FORMAT!r}; export the version again")
            return cls(**raw)
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as exc:
            raise BundleRejected(f"{path} is missing or damaged ({exc}); export the version again") from exc


def device_here() -> str:
    """What a package is compiled for on this machine: its NVIDIA GPU where torch sees one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def processor_of(device: str) -> str:
    import torch

    kind = torch.device(device).type
    if kind == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    if kind != "cuda" or not torch.cuda.is_available():
        raise DependencyUnreachable(
            f"an AOTInductor engine for {kind} needs an NVIDIA GPU that torch can see, and there is none here; "
            "run on a machine with one, or choose the engine openvino or onnxruntime"
        )
    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()} {major}.{minor}"


def runs_on(record: PackageRecord, here: str) -> bool:
    """A GPU's code runs on its own kind; a CPU's also on one with wider vectors."""
    if record.device != "cpu":
        return record.processor == here
    built, now = (_level(name.removeprefix("cpu ")) for name in (record.processor, here))
    return built <= now


def _level(capability: str) -> int:
    return _CPU_LEVELS.index(capability) if capability in _CPU_LEVELS else len(_CPU_LEVELS)
